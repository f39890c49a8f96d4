type Seen = { boots: string[]; toldMs: number };
type Device = { id: string; install_id: string };

const MOST_DEVICES = 100_000;
// A machine may be booted twice between two requests; it never goes back to an earlier boot.
const BOOTS_KEPT = 4;
const TELL_AGAIN_MS = 3_600_000;

/**
 * Notices when one key is used by two machines: by another installation than the one that enrolled, or by two that were
 * started apart and take turns. It proves nothing, for a copy can say whatever the original says; it is worth a look.
 */
export class CloneWatch {
  readonly #elapsedMs: () => number;
  readonly #seen = new Map<string, Seen>();

  constructor(elapsedMs: () => number) {
    this.#elapsedMs = elapsedMs;
  }

  /** What is odd about this request, if anything is. */
  see({ id, install_id }: Device, install: string | undefined, boot: string | undefined): string | undefined {
    if (install !== undefined && install !== install_id) return 'another installation uses its key';
    if (boot === undefined) return undefined;
    const { boots } = this.#of(id);
    const at = boots.indexOf(boot);
    if (at === 0) return undefined;
    if (at > 0) boots.splice(at, 1);
    boots.unshift(boot);
    if (boots.length > BOOTS_KEPT) boots.pop();
    return at > 0 ? 'two machines take turns with its key' : undefined;
  }

  /** Whether this device has not been told about lately; if so, that counts as telling. */
  mayTell(id: string): boolean {
    const seen = this.#of(id);
    if (this.#elapsedMs() - seen.toldMs < TELL_AGAIN_MS) return false;
    seen.toldMs = this.#elapsedMs();
    return true;
  }

  #of(id: string): Seen {
    let seen = this.#seen.get(id);
    if (seen === undefined) {
      seen = { boots: [], toldMs: -Infinity };
      if (this.#seen.size === MOST_DEVICES) this.#seen.delete(this.#seen.keys().next().value!);
      this.#seen.set(id, seen);
    }
    return seen;
  }
}
