// Completes package-lock.json after `npm install`: a registry that mirrors only some platforms makes npm leave the others'
// binary packages out of the lock, and `npm ci` then refuses it everywhere. Their entries follow from the packages that
// ask for them: the exact version, and platform and processor by the name. (They carry no checksum: nobody has seen them.)
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

const platforms = [
  'aix',
  'android',
  'darwin',
  'freebsd',
  'linux',
  'netbsd',
  'openbsd',
  'openharmony',
  'sunos',
  'win32',
];
const processors = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64'];

/**
 * Optional packages that something in the lock asks for and the lock does not have.
 * @param {{packages: Record<string, any>}} lock
 * @returns {Record<string, object>} lock entries by path
 */
export function missingEntries(lock) {
  const missing = {};
  for (const asker of Object.values(lock.packages)) {
    for (const [name, version] of Object.entries(asker.optionalDependencies ?? {})) {
      const path = `node_modules/${name}`;
      if (path in lock.packages) continue;
      const words = name.split(/[-/]/);
      const os = words.filter((word) => platforms.includes(word));
      const cpu = words.filter((word) => processors.includes(word));
      if (os.length !== 1 || cpu.length !== 1 || !/^\d+\.\d+\.\d+(-\S+)?$/.test(version)) {
        throw new Error(
          `package-lock.json lacks ${name}@${version}, and its name does not say for which platform it is`,
        );
      }
      const libc = os[0] === 'linux' ? [words.includes('musl') ? 'musl' : 'glibc'] : undefined;
      missing[path] = { version, cpu, ...(asker.dev && { dev: true }), ...(libc && { libc }), optional: true, os };
    }
  }
  return missing;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const file = fileURLToPath(new URL('../package-lock.json', import.meta.url));
  const lock = JSON.parse(readFileSync(file, 'utf8'));
  const missing = missingEntries(lock);
  const packages = Object.entries({ ...lock.packages, ...missing }).sort(([a], [b]) => (a < b ? -1 : 1));
  writeFileSync(file, `${JSON.stringify({ ...lock, packages: Object.fromEntries(packages) }, null, 2)}\n`);
  for (const path of Object.keys(missing)) console.log(`added ${path.slice('node_modules/'.length)}`);
}
