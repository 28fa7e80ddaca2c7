// The languages of the page. The compiler holds every dictionary to the keys of the English one.
//
// Owns: which languages there are, and the one to begin with. Does not own: numbers and dates (`format`).
import { en } from './en.ts';
import { fr } from './fr.ts';

export type Texts = typeof en;

export const LANGUAGES = ['en', 'fr'] as const;
export type Language = (typeof LANGUAGES)[number];

export const texts: Readonly<Record<Language, Texts>> = { en, fr };

/** The first of the reader's languages that there is. */
export function preferred(languages: readonly string[]): Language {
  const known = languages.map((tag) => LANGUAGES.find((language) => tag.toLowerCase().startsWith(language)));
  return known.find((language) => language !== undefined) ?? 'en';
}

/** The reader's own variant of the language, for numbers and dates. */
export function localeOf(language: Language, languages: readonly string[]): string {
  return languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? (language === 'en' ? 'en-GB' : 'fr-FR');
}
