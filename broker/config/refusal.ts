/** Thrown by what reads a text, with a sentence that says what to write instead. schema.ts makes a mistake of it. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}
