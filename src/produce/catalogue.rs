//! What the sample shop sells, and where its customers live.
//!
//! Owns: products with categories and prices, and the regions of metropolitan France by population.
//! Does not own: how often each is bought (`sales`) or looked at (`clicks`).
//!
//! No text here needs escaping in JSON (a test holds it to that): the generators copy them as they are.

/// A product of the sample shop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub name: &'static str,
    /// Index into [`CATEGORIES`].
    pub category: usize,
    /// List price. Cents, so that no price is ever a float.
    pub cents: u32,
}

/// Regions of metropolitan France with their inhabitants in thousands.
pub(super) const REGIONS: [(&str, u32); 13] = [
    ("Île-de-France", 12_419),
    ("Auvergne-Rhône-Alpes", 8_235),
    ("Nouvelle-Aquitaine", 6_154),
    ("Occitanie", 6_155),
    ("Hauts-de-France", 5_980),
    ("Provence-Alpes-Côte d'Azur", 5_195),
    ("Grand Est", 5_562),
    ("Pays de la Loire", 3_907),
    ("Normandie", 3_327),
    ("Bretagne", 3_450),
    ("Bourgogne-Franche-Comté", 2_786),
    ("Centre-Val de Loire", 2_573),
    ("Corse", 355),
];

type Shelf = (&'static str, [(&'static str, u32); 20]);

/// Shelves of twenty products, with prices in cents.
pub(super) const CATEGORIES: [Shelf; 10] = [
    (
        "Épicerie",
        [
            ("Café moulu arabica 250 g", 489),
            ("Thé vert sencha 100 g", 690),
            ("Miel de lavande 500 g", 1190),
            ("Confiture de mirabelles 370 g", 450),
            ("Huile d'olive vierge extra 75 cl", 1290),
            ("Moutarde de Dijon 350 g", 295),
            ("Fleur de sel de Guérande 250 g", 620),
            ("Riz rouge de Camargue 1 kg", 540),
            ("Lentilles vertes du Puy 500 g", 385),
            ("Chocolat noir 70 % 200 g", 410),
            ("Biscuits bretons pur beurre 300 g", 365),
            ("Caramels au beurre salé 250 g", 590),
            ("Sardines à l'huile 115 g", 345),
            ("Terrine de campagne 180 g", 495),
            ("Soupe de poissons 85 cl", 575),
            ("Pâtes fraîches aux œufs 400 g", 310),
            ("Vinaigre de cidre 50 cl", 275),
            ("Noix du Périgord 500 g", 890),
            ("Piment d'Espelette 40 g", 650),
            ("Calissons d'Aix 200 g", 1350),
        ],
    ),
    (
        "Boissons",
        [
            ("Eau minérale gazeuse 6 x 1 l", 399),
            ("Jus de pomme fermier 1 l", 320),
            ("Cidre brut fermier 75 cl", 480),
            ("Limonade artisanale 75 cl", 290),
            ("Sirop de menthe 70 cl", 450),
            ("Bière blonde artisanale 33 cl", 310),
            ("Bière ambrée artisanale 75 cl", 590),
            ("Bordeaux rouge 75 cl", 895),
            ("Chablis 75 cl", 1690),
            ("Crémant d'Alsace 75 cl", 1150),
            ("Champagne brut 75 cl", 3490),
            ("Rosé de Provence 75 cl", 790),
            ("Pastis de Marseille 70 cl", 1980),
            ("Calvados 5 ans 70 cl", 3890),
            ("Cognac VSOP 70 cl", 4590),
            ("Nectar d'abricot 1 l", 365),
            ("Infusion verveine 20 sachets", 420),
            ("Kombucha gingembre 33 cl", 350),
            ("Chocolat chaud en poudre 400 g", 560),
            ("Café en grains 1 kg", 1790),
        ],
    ),
    (
        "Cuisine",
        [
            ("Poêle en fonte 28 cm", 6990),
            ("Cocotte émaillée 24 cm", 18900),
            ("Couteau de chef 20 cm", 5450),
            ("Couteau de poche en olivier", 3290),
            ("Planche à découper en hêtre", 2490),
            ("Cafetière à piston 1 l", 2990),
            ("Moulin à poivre 18 cm", 3450),
            ("Saladier en grès 25 cm", 2790),
            ("Plat à gratin en terre cuite", 3190),
            ("Moule à tarte 28 cm", 1290),
            ("Moule à madeleines", 1590),
            ("Robot pâtissier 4,8 l", 34900),
            ("Bouilloire électrique 1,7 l", 4990),
            ("Grille-pain deux fentes", 3990),
            ("Balance de cuisine", 1990),
            ("Thermomètre de cuisson", 1790),
            ("Rouleau à pâtisserie", 1150),
            ("Torchons en lin, lot de 3", 2250),
            ("Bocaux à conserve, lot de 6", 1680),
            ("Service à fondue", 4490),
        ],
    ),
    (
        "Maison",
        [
            ("Bougie parfumée figuier", 1990),
            ("Coussin en lin lavé", 2490),
            ("Plaid en laine mérinos", 6990),
            ("Lampe de chevet en céramique", 4590),
            ("Miroir rond 60 cm", 7990),
            ("Vase en verre soufflé", 3490),
            ("Parure de lit en percale", 8990),
            ("Serviette éponge 70 x 140", 1890),
            ("Rideau occultant 140 x 260", 3990),
            ("Tapis berbère 160 x 230", 19900),
            ("Étagère murale en chêne", 5490),
            ("Panier de rangement en osier", 2690),
            ("Horloge murale", 3290),
            ("Savon de Marseille 300 g", 490),
            ("Diffuseur d'huiles essentielles", 3590),
            ("Oreiller ergonomique", 4990),
            ("Guirlande lumineuse 10 m", 1690),
            ("Cadre photo 30 x 40", 1490),
            ("Porte-manteau en frêne", 5990),
            ("Housse de couette 220 x 240", 6490),
        ],
    ),
    (
        "Jardin",
        [
            ("Sécateur à lame courbe", 3290),
            ("Arrosoir en zinc 9 l", 3890),
            ("Tuyau d'arrosage 25 m", 2990),
            ("Terreau universel 40 l", 890),
            ("Graines de tomates anciennes", 350),
            ("Lavande en pot", 790),
            ("Rosier grimpant", 1890),
            ("Olivier 120 cm", 8900),
            ("Composteur en bois 400 l", 6990),
            ("Bêche à manche en frêne", 3490),
            ("Râteau à feuilles", 1990),
            ("Gants de jardinage", 1190),
            ("Tondeuse électrique 38 cm", 18900),
            ("Taille-haie sans fil", 12900),
            ("Table de jardin pliante", 8990),
            ("Chaise longue en teck", 14900),
            ("Parasol déporté 3 m", 16900),
            ("Barbecue à charbon", 9900),
            ("Nichoir à mésanges", 1590),
            ("Récupérateur d'eau 300 l", 7490),
        ],
    ),
    (
        "Bricolage",
        [
            ("Perceuse à percussion 750 W", 7990),
            ("Visseuse sans fil 18 V", 11900),
            ("Scie sauteuse 650 W", 6490),
            ("Ponceuse excentrique", 5990),
            ("Coffret de 40 douilles", 4590),
            ("Marteau de menuisier", 1690),
            ("Tournevis, lot de 6", 1990),
            ("Niveau à bulle 60 cm", 1490),
            ("Mètre ruban 5 m", 790),
            ("Pince multiprise", 1890),
            ("Échelle télescopique 3,8 m", 12900),
            ("Peinture blanche mate 10 l", 5490),
            ("Rouleau de peinture", 890),
            ("Enduit de rebouchage 1 kg", 650),
            ("Vis à bois, boîte de 200", 990),
            ("Chevilles, boîte de 100", 690),
            ("Colle à bois 750 g", 1090),
            ("Rallonge électrique 10 m", 1790),
            ("Ampoule LED E27", 450),
            ("Serrure trois points", 14900),
        ],
    ),
    (
        "Beauté",
        [
            ("Crème hydratante visage 50 ml", 2290),
            ("Huile sèche corps 100 ml", 2490),
            ("Shampooing solide", 890),
            ("Gel douche à l'amande 500 ml", 690),
            ("Baume à lèvres", 490),
            ("Eau de toilette vétiver 100 ml", 5900),
            ("Eau de parfum rose 50 ml", 7200),
            ("Crème mains au karité 75 ml", 1150),
            ("Masque à l'argile verte", 990),
            ("Sérum à la vitamine C 30 ml", 3490),
            ("Crème solaire indice 50", 1690),
            ("Dentifrice à la menthe 75 ml", 450),
            ("Brosse à dents en bambou", 390),
            ("Rasoir de sûreté", 3290),
            ("Huile de barbe 50 ml", 1890),
            ("Vernis à ongles rouge", 1290),
            ("Mascara volume", 1990),
            ("Eau micellaire 400 ml", 1090),
            ("Déodorant naturel 50 ml", 950),
            ("Coffret de savons parfumés", 1990),
        ],
    ),
    (
        "Librairie",
        [
            ("Roman de la rentrée", 2190),
            ("Roman policier en poche", 890),
            ("Recueil de poésie", 950),
            ("Bande dessinée, tome 1", 1195),
            ("Bande dessinée, intégrale", 3590),
            ("Manga, tome 1", 715),
            ("Atlas de France", 2990),
            ("Guide de randonnée des Alpes", 1690),
            ("Guide de la Bretagne", 1490),
            ("Livre de cuisine du marché", 2490),
            ("Livre de pâtisserie", 3290),
            ("Dictionnaire de poche", 790),
            ("Histoire de France illustrée", 3990),
            ("Album pour enfants", 1350),
            ("Cahier de vacances CM1", 620),
            ("Carnet à pages blanches", 1290),
            ("Agenda semainier", 1590),
            ("Stylo-plume", 4490),
            ("Crayons de couleur, boîte de 36", 2490),
            ("Papier à lettres, coffret", 1790),
        ],
    ),
    (
        "Jouets",
        [
            ("Jeu de société stratégie", 3990),
            ("Jeu de cartes classique", 690),
            ("Puzzle 1000 pièces", 1690),
            ("Puzzle 100 pièces", 990),
            ("Train en bois", 4990),
            ("Cubes en bois, lot de 50", 2990),
            ("Peluche ours 30 cm", 1990),
            ("Poupée de chiffon", 2490),
            ("Voiture télécommandée", 4490),
            ("Briques à assembler, 500 pièces", 4990),
            ("Trottinette enfant", 5990),
            ("Cerf-volant", 2290),
            ("Boules de pétanque, lot de 6", 5990),
            ("Jeu de quilles finlandaises", 3490),
            ("Kit de magie", 2490),
            ("Pâte à modeler, lot de 8", 1190),
            ("Microscope junior", 6990),
            ("Instrument de musique, xylophone", 1890),
            ("Déguisement de chevalier", 2990),
            ("Toupies, lot de 4", 890),
        ],
    ),
    (
        "High-tech",
        [
            ("Écouteurs sans fil", 7990),
            ("Casque à réduction de bruit", 24900),
            ("Enceinte portable", 9900),
            ("Chargeur rapide USB-C", 2490),
            ("Câble USB-C 2 m", 1290),
            ("Batterie externe 10 000 mAh", 2990),
            ("Souris sans fil", 2490),
            ("Clavier mécanique AZERTY", 8990),
            ("Écran 27 pouces", 22900),
            ("Disque SSD 1 To", 8490),
            ("Clé USB 128 Go", 1490),
            ("Webcam HD", 5990),
            ("Montre connectée", 19900),
            ("Liseuse électronique", 14900),
            ("Tablette 11 pouces", 34900),
            ("Téléphone reconditionné", 29900),
            ("Routeur Wi-Fi 6", 11900),
            ("Imprimante laser", 17900),
            ("Support pour ordinateur portable", 3490),
            ("Lampe de bureau LED", 3990),
        ],
    ),
];

/// All products, in shelf order.
pub(super) fn products() -> Vec<Product> {
    let shelves = CATEGORIES.iter().enumerate();
    shelves
        .flat_map(|(category, (_, shelf))| {
            shelf
                .iter()
                .map(move |&(name, cents)| Product { name, category, cents })
        })
        .collect()
}

/// A long tail: how often each product is chosen, relative to the others. The few best sellers lie on
/// different shelves.
pub(super) fn popularity(products: usize) -> Vec<u32> {
    // A stride without a common divisor with the count spreads the ranks over the shelves.
    const STRIDE: usize = 73;
    (0..products)
        .map(|i| {
            let rank = (i * STRIDE + 11) % products;
            1_000_000 / (rank as u32 + 8)
        })
        .collect()
}

/// A name as it stands in a path: lower case, no accents, words joined by hyphens.
pub(super) fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            'à' | 'â' => slug.push('a'),
            'é' | 'è' | 'ê' | 'ë' => slug.push('e'),
            'î' | 'ï' => slug.push('i'),
            'ô' => slug.push('o'),
            'û' | 'ù' => slug.push('u'),
            'ç' => slug.push('c'),
            'œ' => slug.push_str("oe"),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_text_needs_escaping_in_json() {
        let names = products().into_iter().map(|p| p.name);
        let all = names
            .chain(CATEGORIES.iter().map(|(c, _)| *c))
            .chain(REGIONS.iter().map(|(r, _)| *r));
        for text in all {
            let json = serde_json::to_string(text).expect("a string");
            assert_eq!(json, format!("\"{text}\""));
        }
    }

    #[test]
    fn every_product_has_a_name_and_a_path_of_its_own() {
        let products = products();
        assert_eq!(products.len(), 200);
        let slugs: HashSet<String> = products.iter().map(|p| slug(p.name)).collect();
        assert_eq!(slugs.len(), products.len());
        assert_eq!(slug("Pâtes fraîches aux œufs 400 g"), "pates-fraiches-aux-oeufs-400-g");
        assert!(
            slugs
                .iter()
                .all(|s| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        );
    }

    #[test]
    fn popularity_has_a_long_tail_and_best_sellers_on_several_shelves() {
        let weights = popularity(200);
        let mut ranked: Vec<(u32, usize)> = weights.iter().enumerate().map(|(i, w)| (*w, i)).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let sum = |part: &[(u32, usize)]| part.iter().map(|(w, _)| u64::from(*w)).sum::<u64>();
        assert!(
            sum(&ranked[..20]) * 100 / sum(&ranked) > 30,
            "a tenth of the products sells a third"
        );
        assert!(ranked[199].0 > 0, "and every product sells");
        let shelves: HashSet<usize> = ranked[..10].iter().map(|(_, i)| i / 20).collect();
        assert!(shelves.len() >= 5, "{shelves:?}");
    }
}
