const BLOCK = 64 * 1024;
const SMALL = 4 * 1024;

/**
 * What has arrived, in its order. Small pieces are copied together: each one kept for itself would cost two hundred bytes
 * more than it holds, and a body may come in chunks of one byte.
 */
export class Pieces {
  readonly #pieces: Buffer[] = [];
  #block: Buffer = Buffer.alloc(0);
  #from = 0;
  #to = 0;
  length = 0;
  count = 0;

  add(piece: Buffer): void {
    this.length += piece.length;
    this.count++;
    if (piece.length >= SMALL || this.length === piece.length) {
      this.#close();
      this.#pieces.push(piece);
      return;
    }
    if (this.#to + piece.length > this.#block.length) {
      this.#close();
      this.#block = Buffer.allocUnsafeSlow(BLOCK);
      this.#from = this.#to = 0;
    }
    this.#to += piece.copy(this.#block, this.#to);
  }

  join(): Buffer {
    this.#close();
    return this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces, this.length);
  }

  // What is left of the block is for the next small pieces.
  #close(): void {
    if (this.#to > this.#from) this.#pieces.push(this.#block.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}
