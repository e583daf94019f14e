/** Characters of a message; a stranger's name of a megabyte must not fill the screen. */
const longestMessage = 2000;

/** On one line, and unable to steer a terminal, whatever names and values stand in it. */
function oneLine(message: string): string {
  const plain = message
    .slice(0, longestMessage + 1)
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, (c) =>
      c === '\n' ? '\\n' : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
  return plain.length > longestMessage ? `${plain.slice(0, longestMessage)}…` : plain;
}

/**
 * The error classes of the project. A message names the thing and the remedy in one line:
 * `ShapeError: conv2d: input [32,85,8,1] has 1 channel, filter [3,3,2,16] wants 2`.
 * The command line exits with 2 for a user's mistake and 1 for a fault of ours.
 */
export class MatganError extends Error {
  /** True where the input is at fault, not the program: exit code 2. */
  readonly userMistake: boolean = true;
  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options);
    this.name = new.target.name;
  }
}

/** No adapter, a lost device, an allocation refused: outside the program's power, exit code 1. */
export class DeviceError extends MatganError {
  override readonly userMistake: boolean = false;
}
/** A shader that does not compile; the message shows file, line and text. One of the user's own is the user's mistake. */
export class ShaderError extends MatganError {
  override readonly userMistake: boolean;
  constructor(message: string, options: ErrorOptions & { userMistake?: boolean } = {}) {
    super(message, options);
    this.userMistake = options.userMistake ?? false;
  }
}
/** A gradient, or a value on the GPU, that is not what it should be. */
export class GradientError extends MatganError {}
/** Shapes or attributes that an op does not accept. */
export class ShapeError extends MatganError {}
/** A formula that cannot be read or encoded. */
export class FormulaError extends MatganError {
  /** Zero-based position in the formula text (UTF-16 units) where reading failed. */
  readonly position: number;
  constructor(message: string, position: number, options?: ErrorOptions) {
    super(message, options);
    this.position = position;
  }
}
/** A table, column, file or output folder that cannot be used. */
export class DataError extends MatganError {}
/** A checkpoint that cannot be read, or does not belong to the model at hand. */
export class CheckpointError extends MatganError {}
/** A configuration, preset or command-line option that is not acceptable. */
export class ConfigError extends MatganError {}
