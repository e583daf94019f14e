import { readFileSync, writeFileSync } from 'node:fs';

/** The hash that a dynamic linker compares version names by (System V ABI). */
export function elfHash(name) {
  let hash = 0;
  for (const byte of Buffer.from(name, 'latin1')) {
    hash = ((hash << 4) + byte) >>> 0;
    const high = hash & 0xf0000000;
    if (high) hash ^= high >>> 24;
    hash = (hash & ~high) >>> 0;
  }
  return hash;
}

/** Sections of a 64-bit little-endian ELF file by name: offset, size, and the index of the section they link to. */
function sections(bytes) {
  if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) return null;
  const at = Number(bytes.readBigUInt64LE(0x28));
  const [size, count, names] = [bytes.readUInt16LE(0x3a), bytes.readUInt16LE(0x3c), bytes.readUInt16LE(0x3e)];
  const header = (i) => ({
    name: bytes.readUInt32LE(at + i * size),
    offset: Number(bytes.readBigUInt64LE(at + i * size + 0x18)),
    size: Number(bytes.readBigUInt64LE(at + i * size + 0x20)),
  });
  const text = (offset) => bytes.toString('latin1', offset, bytes.indexOf(0, offset));
  const all = Array.from({ length: count }, (_, i) => header(i));
  return new Map(all.map((section) => [text(all[names].offset + section.name), section]));
}

/**
 * Makes a library ask for symbols by an older version name, in place. Done only where exactly the symbols named in
 * `symbols` are asked for by `from`, so that the caller has looked each one up.
 * @param {string} file
 * @param {string} from e.g. `GLIBCXX_3.4.30`
 * @param {string} to of the same length
 * @param {readonly string[]} symbols mangled names
 * @returns {boolean} whether the file was changed
 */
export function lowerVersionNeed(file, from, to, symbols) {
  const bytes = readFileSync(file);
  const found = sections(bytes);
  const [needs, strings, versions, table] = ['.gnu.version_r', '.dynstr', '.gnu.version', '.dynsym'].map((name) =>
    found?.get(name),
  );
  if (!needs || !strings || !versions || !table || from.length !== to.length) return false;
  const text = (offset) => bytes.toString('latin1', strings.offset + offset, bytes.indexOf(0, strings.offset + offset));

  // A chain of needed files, each with a chain of needed versions.
  const entries = [];
  for (let need = needs.offset; ; ) {
    for (let aux = need + bytes.readUInt32LE(need + 8); ; ) {
      const name = bytes.readUInt32LE(aux + 8);
      if (text(name) === from) entries.push({ aux, name, index: bytes.readUInt16LE(aux + 6) });
      const next = bytes.readUInt32LE(aux + 12);
      if (next === 0) break;
      aux += next;
    }
    const next = bytes.readUInt32LE(need + 12);
    if (next === 0) break;
    need += next;
  }
  if (entries.length !== 1) return false;
  const [{ aux, name, index }] = entries;

  const users = [];
  for (let i = 0; i < versions.size / 2; i++) {
    if ((bytes.readUInt16LE(versions.offset + 2 * i) & 0x7fff) === index)
      users.push(text(bytes.readUInt32LE(table.offset + 24 * i)));
  }
  if (users.sort().join() !== [...symbols].sort().join()) return false;

  bytes.writeUInt32LE(elfHash(to), aux);
  bytes.write(to, strings.offset + name, 'latin1');
  writeFileSync(file, bytes);
  return true;
}
