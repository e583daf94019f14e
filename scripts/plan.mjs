// What setup.mjs decides, apart from what it does: pure functions of texts, so that each distribution can be tested
// without being there. Node built-ins only, since nothing is installed yet when they run.

/** @typedef {{uris: string[], suites: string[], components: string[], options: Record<string, string>}} AptEntry */

/** The oldest Mesa that Dawn accepts for its software Vulkan driver; Debian 12's own 22.3 is refused. */
export const OLDEST_MESA_MAJOR = 23;

/** Packages that bring a software Vulkan adapter to Debian and Ubuntu. */
export const APT_PACKAGES = ['libvulkan1', 'mesa-vulkan-drivers'];

/**
 * Reads /etc/os-release.
 * @param {string} text
 * @returns {{id: string, like: string[], version: string, codename: string, name: string}}
 */
export function parseOsRelease(text) {
  const fields = {};
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*([A-Z0-9_]+)=(.*?)\s*$/.exec(line);
    if (match) fields[match[1]] = match[2].replace(/^(["'])(.*)\1$/, '$2').replace(/\\(["'$`\\])/g, '$1');
  }
  return {
    id: (fields.ID ?? 'linux').toLowerCase(),
    like: (fields.ID_LIKE ?? '').toLowerCase().split(/\s+/).filter(Boolean),
    version: fields.VERSION_ID ?? '',
    codename: fields.VERSION_CODENAME ?? fields.UBUNTU_CODENAME ?? '',
    name: fields.PRETTY_NAME ?? fields.NAME ?? fields.ID ?? 'Linux',
  };
}

/** deb822 spells an option of the one-line format differently: `[arch=amd64]` is `Architectures: amd64`. */
const OPTION_NAMES = { arch: 'Architectures', lang: 'Languages', target: 'Targets' };
const titleCase = (name) =>
  name
    .toLowerCase()
    .split('-')
    .map((part) => part[0].toUpperCase() + part.slice(1))
    .join('-');

/**
 * Reads one-line apt sources (`sources.list`, `*.list`); comments, `deb-src` and lines that cannot be read are dropped.
 * @param {string} text
 * @returns {AptEntry[]}
 */
export function parseOneLineSources(text) {
  const entries = [];
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.replace(/#.*/, '').trim();
    const match = /^deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$/.exec(line);
    if (!match) continue;
    const options = {};
    for (const option of (match[1] ?? '').trim().split(/\s+/).filter(Boolean)) {
      const [name, value] = option.split(/\+?=(.*)/s);
      if (value) options[OPTION_NAMES[name] ?? titleCase(name)] = value.replaceAll(',', ' ');
    }
    entries.push({ uris: [match[2]], suites: [match[3]], components: match[4].split(/\s+/).filter(Boolean), options });
  }
  return entries;
}

/**
 * Reads deb822 apt sources (`*.sources`), several stanzas to a file; disabled and source-only stanzas are dropped.
 * A multi-line field (a key inlined in Signed-By) keeps its line breaks.
 * @param {string} text
 * @returns {AptEntry[]}
 */
export function parseDeb822Sources(text) {
  const entries = [];
  for (const stanza of text.split(/\r?\n(?:[ \t]*\r?\n)+/)) {
    const fields = {};
    let current;
    for (const line of stanza.split(/\r?\n/)) {
      if (line.startsWith('#')) continue;
      const match = /^([A-Za-z][A-Za-z0-9-]*):\s*(.*)$/.exec(line);
      if (match) {
        current = titleCase(match[1]);
        fields[current] = match[2].trim();
      } else if (/^[ \t]/.test(line) && current) fields[current] += `\n${line.trimEnd()}`;
    }
    const list = (name) => (fields[name] ?? '').split(/\s+/).filter(Boolean);
    const types = list('Types');
    const { Types, Uris, Suites, Components, Enabled, ...options } = fields;
    if (!types.includes('deb') || /^(no|false|0|off|without|disable)$/i.test(Enabled ?? 'yes')) continue;
    entries.push({ uris: list('Uris'), suites: list('Suites'), components: list('Components'), options });
  }
  return entries.filter((entry) => entry.uris.length > 0 && entry.suites.length > 0);
}

/**
 * Writes entries as deb822, the format every apt since Debian 8 reads.
 * @param {readonly AptEntry[]} entries
 */
export function formatDeb822(entries) {
  return entries
    .map((entry) => {
      const lines = ['Types: deb', `URIs: ${entry.uris.join(' ')}`, `Suites: ${entry.suites.join(' ')}`];
      if (entry.components.length > 0) lines.push(`Components: ${entry.components.join(' ')}`);
      for (const [name, value] of Object.entries(entry.options)) lines.push(`${name}: ${value}`);
      return `${lines.join('\n')}\n`;
    })
    .join('\n');
}

/** The upstream major version in a Debian version (`1:25.0.7-2~bpo12+1` gives 25), or 0 where there is none. */
export function majorVersion(version) {
  return Number(/^(?:\d+:)?(\d+)/.exec(version ?? '')?.[1] ?? 0);
}

const FAMILIES = [
  { family: 'debian', ids: ['debian', 'ubuntu', 'linuxmint', 'pop', 'raspbian', 'kali'] },
  { family: 'fedora', ids: ['fedora', 'rhel', 'centos', 'rocky', 'almalinux', 'ol', 'amzn'] },
  { family: 'arch', ids: ['arch', 'manjaro', 'endeavouros', 'cachyos'] },
  { family: 'suse', ids: ['opensuse', 'opensuse-leap', 'opensuse-tumbleweed', 'suse', 'sles'] },
  { family: 'alpine', ids: ['alpine'] },
];

/** `debian`, `fedora`, `arch`, `suse`, `alpine` or `unknown`: by ID first, then by ID_LIKE. */
export function familyOf(os) {
  for (const id of [os.id, ...os.like]) {
    const found = FAMILIES.find(({ ids }) => ids.includes(id));
    if (found) return found.family;
  }
  return 'unknown';
}

const MANUAL = {
  fedora: 'dnf install -y vulkan-loader mesa-vulkan-drivers',
  arch: 'pacman -S --needed --noconfirm vulkan-icd-loader vulkan-swrast',
  suse: 'zypper --non-interactive install libvulkan1 libvulkan_lvp Mesa-vulkan-device-select',
};

/**
 * How this Linux gets a Vulkan adapter.
 *
 * @param {object} machine
 * @param {ReturnType<typeof parseOsRelease>} machine.os
 * @param {boolean} machine.root whether we may install
 * @param {AptEntry[]} machine.sources the machine's own apt entries
 * @param {string} machine.candidate the version of mesa-vulkan-drivers that apt would take now, '' where unknown
 * @returns {{kind: 'apt', entries: AptEntry[], target: string | null, why: string}
 *   | {kind: 'manual', command: string | null, why: string}}
 *   `apt`: install with these entries as the only sources, from suite `target` where one is named (no entries: with the
 *   machine's own sources as they are). `manual`: somebody else must run `command`.
 */
export function planDriver({ os, root, sources, candidate }) {
  const sudo = root ? '' : 'sudo ';
  const family = familyOf(os);
  if (family === 'alpine') {
    return {
      kind: 'manual',
      command: `${sudo || ''}apk add vulkan-loader mesa-vulkan-swrast`.replace('sudo ', 'doas '),
      why: `${os.name}: Dawn's binary is linked against glibc, so even with this driver the reference executor may be all that runs`,
    };
  }
  if (family !== 'debian') {
    const command = MANUAL[family];
    if (!command) return { kind: 'manual', command: null, why: `${os.name} is not a distribution this script knows` };
    return {
      kind: 'manual',
      command: sudo + command,
      why: `${os.name}: this script installs on Debian and Ubuntu only`,
    };
  }

  const packages = APT_PACKAGES.join(' ');
  const newEnough = majorVersion(candidate) >= OLDEST_MESA_MAJOR;
  const bookworm = os.codename === 'bookworm' && !newEnough;
  // Third-party sources are left out: one that cannot be reached would fail the update for packages we do not want of it.
  const own = sources
    .map((entry) => ({
      ...entry,
      suites: entry.suites.filter((s) => s === os.codename || s.startsWith(`${os.codename}-`)),
    }))
    .filter((entry) => os.codename !== '' && entry.suites.length > 0);

  if (!bookworm) {
    if (root)
      return { kind: 'apt', entries: newEnough ? [] : own, target: null, why: `${os.name}: its own Mesa will do` };
    return {
      kind: 'manual',
      command: `sudo apt-get update && sudo apt-get install -y ${packages}`,
      why: 'installing needs root',
    };
  }

  const main = own.find((entry) => entry.suites.includes('bookworm'));
  const target = 'bookworm-backports';
  if (!main) {
    return {
      kind: 'manual',
      command: null,
      why: `${os.name}: its own Mesa is refused by Dawn, and no apt source names the suite "bookworm", so the mirror of ${target} is unknown; add that suite and run again`,
    };
  }
  const backports = { uris: main.uris, suites: [target], components: ['main'], options: main.options };
  if (root) {
    return {
      kind: 'apt',
      entries: [
        ...own.map((e) => ({ ...e, suites: e.suites.filter((s) => s !== target) })).filter((e) => e.suites.length > 0),
        backports,
      ],
      target,
      why: `${os.name}: its own Mesa 22.3 is refused by Dawn, ${target} has a newer one`,
    };
  }
  const signedBy = main.options['Signed-By'];
  const option = signedBy && !signedBy.includes('\n') ? `[signed-by=${signedBy}] ` : '';
  return {
    kind: 'manual',
    command:
      `echo 'deb ${option}${main.uris[0]} ${target} main' | sudo tee /etc/apt/sources.list.d/backports.list && ` +
      `sudo apt-get update && sudo apt-get install -y -t ${target} ${packages}`,
    why: `installing needs root (${os.name}: its own Mesa 22.3 is refused by Dawn, ${target} has a newer one)`,
  };
}

/**
 * Whether node_modules holds what package-lock.json asks for. Versions are compared, not file times: a checkout or a copy
 * changes times without changing anything.
 * @param {{packages: Record<string, {version?: string, optional?: boolean, link?: boolean}>}} lock package-lock.json
 * @param {{packages: Record<string, {version?: string}>} | null} installed node_modules/.package-lock.json
 */
export function dependenciesMatch(lock, installed) {
  if (!installed?.packages) return false;
  for (const [path, wanted] of Object.entries(lock.packages)) {
    if (path === '') continue;
    const found = installed.packages[path];
    if (!found) {
      if (wanted.optional) continue;
      return false;
    }
    if (found.version !== wanted.version) return false;
  }
  return true;
}
