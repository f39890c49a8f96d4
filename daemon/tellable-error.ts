/** Thrown with a sentence for the person: whoever runs the command prints it, without a stack, and ends with its exit code. */
export class TellableError extends Error {
  override name = 'TellableError';
  readonly exitCode: number = 1;
}
