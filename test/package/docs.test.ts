import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

// The documents are held against the sources: what they link to and name is there, what they quote is in the file.
const root = fileURLToPath(new URL('../..', import.meta.url));
const documents = ['README.md', 'CONTRIBUTING.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)]
  .filter((name) => name.endsWith('.md'))
  .map((name) => ({ name, text: readFileSync(join(root, name), 'utf8').replace(/<!--.*?-->/gs, '') }));

const sourceFolders = /^(src|shaders|test|scripts|bench|data\/presets|docs|bin)\/[\w./-]*$/;

/** Files that a document links to, or names in backticks; names in capitals stand for the reader's own. */
function named(text: string): string[] {
  const names = [...text.matchAll(/`([^`\n]+)`/g)].map(([, name]) => name);
  return names.filter((name) => sourceFolders.test(name) && !/[A-Z]{3,}/.test(name));
}

/** Lines of fenced blocks that begin with a comment naming a file, with that file. `…` stands for what is left out. */
function quoted(text: string): { file: string; lines: string[] }[] {
  return [...text.matchAll(/^```(?!diff)\w+\n\/\/ ((?:src|shaders|docs)\/\S+)\n(.*?)^```/gms)].map(
    ([, file, body]) => ({
      file,
      lines: body.split('\n').filter((line) => line.trim() !== '' && line.trim() !== '…'),
    }),
  );
}

describe.each(documents)('$name', ({ name, text }) => {
  it('links to and names files that are there', () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#\s]+)/g)].map(([, target]) => join(dirname(name), target));
    const missing = [...links, ...named(text)].filter((file) => !existsSync(join(root, file)));
    expect(missing).toEqual([]);
  });

  it('quotes lines that are in the file', () => {
    for (const { file, lines } of quoted(text)) {
      const source = readFileSync(join(root, file), 'utf8').split('\n');
      expect(
        lines.filter((line) => !source.includes(line)),
        file,
      ).toEqual([]);
    }
  });
});

it('the tour quotes', () => {
  const tour = documents.find(({ name }) => name === 'docs/tour.md')!;
  expect(quoted(tour.text).length).toBeGreaterThan(8);
  expect(named(tour.text).length).toBeGreaterThan(30);
});
