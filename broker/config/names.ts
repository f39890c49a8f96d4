import { Refusal } from './refusal.ts';

type Rule = { form: RegExp; says: string; not?: RegExp; because?: string };

/** How things may be named in the sections whose names are free to choose. */
export const NAMES = {
  providers: {
    // A letter first: names that are numbers would lose their order in JavaScript, and the first provider is asked first.
    form: /^[a-z][a-z0-9._-]{0,63}$/,
    says: 'Name a provider with up to 64 of a-z, 0-9, dot, hyphen and underscore, a letter first.',
  },
  products: {
    form: /^[a-z0-9][a-z0-9-]{0,62}$/,
    says: 'Name a product with up to 63 of a-z, 0-9 and hyphen, a letter or digit first; the name stands in paths.',
    not: /^completions$/,
    because:
      'Name it otherwise: /v1/chat/completions must stay the path that client libraries call, not that of a product.',
  },
  clients: {
    form: /^[a-z0-9][a-z0-9._-]{0,63}$/,
    says: 'Name a client with up to 64 of a-z, 0-9, dot, hyphen and underscore, a letter or digit first.',
    not: /^spk_/,
    because: 'Name it otherwise: the name of a client is its key id, and spk_ begins the key ids of devices.',
  },
} as const satisfies Record<string, Rule>;

/** The sections whose names are free to choose. */
export const NAMED_SECTIONS = ['providers', 'products', 'clients'] as const;

/** What is wrong with a name in one of those sections, if anything is. */
export function faultOfName(section: (typeof NAMED_SECTIONS)[number], name: string): string | undefined {
  const { form, says, not, because }: Rule = NAMES[section];
  if (!form.test(name)) return says;
  return not?.test(name) ? because : undefined;
}

/** The full name of a model. */
export function readModelName(text: string): string {
  if (text.includes('*')) {
    throw new Refusal('Write the full name of a model; patterns with * belong in the models of a product.');
  }
  return readModelPattern(text);
}

/** The name of a model, or a pattern in which `*` stands for any characters. */
export function readModelPattern(text: string): string {
  if (!/^[\x21-\x7e]{1,200}$/.test(text)) {
    throw new Refusal('Write the name of a model: up to 200 visible ASCII characters.');
  }
  return text;
}
