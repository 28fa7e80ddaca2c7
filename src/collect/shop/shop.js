// The sample shop's basket and region. Both stay in this tab.
(() => {
  'use strict';
  const PRODUCTS = {
    cafe: ['Café moulu arabica 250 g', 489],
    couteau: ['Couteau de poche en olivier', 3290],
    bougie: ['Bougie parfumée figuier', 1990],
  };
  const by = id => document.getElementById(id);
  const euros = cents => (cents / 100).toLocaleString('fr-FR', { style: 'currency', currency: 'EUR' });
  const read = () => JSON.parse(sessionStorage.getItem('boutique.panier') || '{}');
  const write = basket => sessionStorage.setItem('boutique.panier', JSON.stringify(basket));
  const count = () => { by('compte').textContent = Object.values(read()).reduce((sum, n) => sum + n, 0); };

  // What the tracker sends as the visitor's region is what its own script tag says.
  const region = by('region');
  const tell = () => { document.querySelector('script[src$="tracker.js"]').dataset.region = region.value; };
  region.value = sessionStorage.getItem('boutique.region') || '';
  region.addEventListener('change', () => {
    sessionStorage.setItem('boutique.region', region.value);
    tell();
  });
  tell();

  const add = document.querySelector('[data-add]');
  if (add) {
    add.addEventListener('click', () => {
      const basket = read();
      basket[add.dataset.add] = (basket[add.dataset.add] || 0) + 1;
      write(basket);
      count();
      by('ajoute').textContent = `Ajouté : ${basket[add.dataset.add]} dans le panier.`;
    });
  }

  if (by('lignes')) {
    const lines = Object.entries(read()).filter(([product]) => PRODUCTS[product]);
    let total = 0;
    for (const [product, quantity] of lines) {
      const [name, cents] = PRODUCTS[product];
      const row = by('lignes').tBodies[0].insertRow();
      for (const text of [name, quantity, euros(quantity * cents)]) row.insertCell().textContent = text;
      total += quantity * cents;
    }
    by('total').textContent = euros(total);
    by('lignes').hidden = by('commander').hidden = !lines.length;
    by('vide').hidden = lines.length > 0;
  }

  // Ordered: the basket is empty again.
  if (location.pathname.endsWith('/merci')) write({});
  count();
})();
