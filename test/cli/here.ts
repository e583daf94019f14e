/** `matgan …` in the test's own process: quicker than a process of its own, and parts of it can be replaced. */
import { vi } from 'vitest';
import { main } from '../../src/cli/main.ts';

/** Exit code and streams of a command line. */
export async function matganHere(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      texts[name] += text;
      return true;
    }),
  );
  try {
    const status = await main(args);
    return { status, ...texts };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = undefined;
  }
}

/** Lets a stream look like a terminal while `work` runs. */
export async function onTerminal<T>(stream: 'stdout' | 'stderr', work: () => T | Promise<T>): Promise<T> {
  const before = process[stream].isTTY;
  process[stream].isTTY = true;
  try {
    return await work();
  } finally {
    process[stream].isTTY = before;
  }
}
