/** Something that is not as it was recorded, in a sentence. */
export type Finding = { chain?: string; n?: number; says: string };

/** Told of each as it is found; there may be as many as there are entries. */
export type Found = (finding: Finding) => void;

/** That entry n of a chain has this hash, and who says so. */
export type Claim = { n: number; hash: string; by: string };

/** The claim that reaches furthest. */
export function furthest(claims: readonly Claim[]): Claim {
  return claims.reduce((far, claim) => (claim.n > far.n ? claim : far));
}

/** So many entries, in words. */
export function entriesOf(number: number): string {
  return `${number} ${number === 1 ? 'entry' : 'entries'}`;
}
