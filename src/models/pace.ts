/**
 * How long work on a software adapter takes, so that most of it can be slept through: waiting on a promise polls, with a core that should
 * compute. The estimate is the lesser of the last two times: a machine that was suspended in between must not be slept through again.
 */
export class Pace {
  private times: readonly [number, number] = [0, 0];

  /** Milliseconds that one piece of work takes; 0 until two were seen. */
  get expected(): number {
    return Math.min(...this.times);
  }

  /** Milliseconds to sleep for before waiting for `pieces` of work. */
  sleep(pieces = 1): number {
    return 0.8 * this.expected * pieces;
  }

  /**
   * @param took milliseconds from start to end, for `pieces` of work
   * @param waited those of them after the sleep: work that was done before the sleep was over took less than `took` says, and the
   *   sleep must not become its own measure
   */
  note(took: number, waited: number, pieces = 1): void {
    this.times = [this.times[1], waited < 0.05 * took ? 0.7 * this.expected : took / pieces];
  }
}
