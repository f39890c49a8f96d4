/** Thrown with a sentence for the operator: whoever runs the command prints it and ends with 1, without a stack. */
export class OperatorError extends Error {
  override name = 'OperatorError';
}
