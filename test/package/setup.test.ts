import { describe, expect, it } from 'vitest';
import {
  dependenciesMatch,
  familyOf,
  formatDeb822,
  majorVersion,
  parseDeb822Sources,
  parseOneLineSources,
  parseOsRelease,
  planDriver,
} from '../../scripts/plan.mjs';

const releases: Record<string, string> = {
  bookworm:
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
  trixie: 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nID=debian\n',
  noble:
    'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n',
  fedora: 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41"\n',
  rocky: 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
  arch: 'NAME="Arch Linux"\nID=arch\n',
  suse: 'NAME="openSUSE Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\n',
  alpine: 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.0\n',
  void: 'NAME="Void"\nID="void"\n',
};
const os = (name: string) => parseOsRelease(releases[name]);

const deb822 = `# the image's own
Types: deb deb-src
# http://snapshot.example.org/
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://third.example.com/apt
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example.org/debian
Suites: bookworm
Components: main
`;
const oneLine = `# comment
deb http://mirror.example.org/debian bookworm main contrib # trailing
deb-src http://mirror.example.org/debian bookworm main
deb [arch=amd64,arm64 signed-by=/etc/apt/keyrings/x.gpg trusted=yes] https://other.example.org/debian bookworm-updates main
nonsense
`;

describe('reading apt sources', () => {
  it('reads deb822 stanzas, without disabled and source-only ones', () => {
    const entries = parseDeb822Sources(deb822);
    expect(entries.map((entry) => entry.uris[0])).toEqual([
      'http://mirror.example.org/debian',
      'http://mirror.example.org/debian-security',
      'https://third.example.com/apt',
    ]);
    expect(entries[0].suites).toEqual(['bookworm', 'bookworm-updates']);
    expect(entries[0].options).toEqual({ 'Signed-By': '/usr/share/keyrings/debian-archive-keyring.gpg' });
  });

  it('keeps a key that is written into Signed-By, and survives CRLF', () => {
    const text =
      'Types: deb\r\nURIs: http://a.example/debian\r\nSuites: bookworm\r\nSigned-By:\r\n -----BEGIN\r\n .\r\n abc\r\n';
    const [entry] = parseDeb822Sources(text);
    expect(entry.options['Signed-By']).toBe('\n -----BEGIN\n .\n abc');
    expect(parseDeb822Sources(formatDeb822([entry]))).toEqual([entry]);
  });

  it('reads one-line entries with options, and writes them as deb822', () => {
    const entries = parseOneLineSources(oneLine);
    expect(entries).toHaveLength(2);
    expect(entries[0]).toEqual({
      uris: ['http://mirror.example.org/debian'],
      suites: ['bookworm'],
      components: ['main', 'contrib'],
      options: {},
    });
    expect(entries[1].options).toEqual({
      Architectures: 'amd64 arm64',
      'Signed-By': '/etc/apt/keyrings/x.gpg',
      Trusted: 'yes',
    });
    expect(parseDeb822Sources(formatDeb822(entries))).toEqual(entries);
  });

  it('reads nothing from nothing', () => {
    expect(parseDeb822Sources('')).toEqual([]);
    expect(parseOneLineSources('')).toEqual([]);
  });
});

describe('planning a driver', () => {
  const plan = (name: string, root: boolean, text: string, candidate: string) =>
    planDriver({
      os: os(name),
      root,
      sources: text.includes('Types:') ? parseDeb822Sources(text) : parseOneLineSources(text),
      candidate,
    });

  it.each([deb822, oneLine])('Debian 12 as root: backports of the machine’s own mirror, its key kept', (text) => {
    const made = plan('bookworm', true, text, '22.3.6-1+deb12u1');
    if (made.kind !== 'apt') throw new Error(`planned ${made.kind}`);
    expect(made.target).toBe('bookworm-backports');
    const written = formatDeb822(made.entries);
    expect(written).not.toMatch(/nodistro|off\.example|source\.example/);
    const backports = made.entries.at(-1);
    expect(backports?.suites).toEqual(['bookworm-backports']);
    expect(backports?.uris).toEqual(['http://mirror.example.org/debian']);
    if (text === deb822) expect(backports?.options['Signed-By']).toMatch(/debian-archive-keyring/);
  });

  it('Debian 12 that already offers a new Mesa needs no backports', () => {
    const made = plan('bookworm', true, deb822, '25.0.7-2~bpo12+1');
    expect(made).toMatchObject({ kind: 'apt', target: null, entries: [] });
  });

  it('Debian 12 whose sources name no mirror: says what is missing', () => {
    const made = plan('bookworm', true, 'deb https://third.example.com/apt nodistro main', '');
    expect(made).toMatchObject({ kind: 'manual', command: null });
    expect(made.why).toMatch(/no apt source names the suite "bookworm"/);
  });

  it('Debian 12 as a user: the exact commands', () => {
    const made = plan('bookworm', false, deb822, '22.3.6-1');
    if (made.kind !== 'manual') throw new Error(`planned ${made.kind}`);
    expect(made.command).toBe(
      "echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example.org/debian bookworm-backports main'" +
        ' | sudo tee /etc/apt/sources.list.d/backports.list && sudo apt-get update && ' +
        'sudo apt-get install -y -t bookworm-backports libvulkan1 mesa-vulkan-drivers',
    );
  });

  it.each([
    ['trixie', '25.0.7-2'],
    ['noble', '24.2.8-1ubuntu1'],
  ])('%s as root: plain install', (name, candidate) => {
    expect(plan(name, true, 'deb http://mirror.example.org/x trixie main', candidate)).toMatchObject({
      kind: 'apt',
      target: null,
      entries: [],
    });
  });

  it('an image without lists (no candidate known): its own suites, third parties left out', () => {
    const text =
      'deb http://mirror.example.org/ubuntu noble main universe\ndeb https://third.example.com/apt nodistro main';
    const made = plan('noble', true, text, '');
    if (made.kind !== 'apt') throw new Error(`planned ${made.kind}`);
    expect(made.entries.map((entry) => entry.uris[0])).toEqual(['http://mirror.example.org/ubuntu']);
    expect(made.target).toBeNull();
  });

  it.each<[string, boolean, string | null]>([
    ['noble', false, 'sudo apt-get update && sudo apt-get install -y libvulkan1 mesa-vulkan-drivers'],
    ['fedora', false, 'sudo dnf install -y vulkan-loader mesa-vulkan-drivers'],
    ['rocky', true, 'dnf install -y vulkan-loader mesa-vulkan-drivers'],
    ['arch', false, 'sudo pacman -S --needed --noconfirm vulkan-icd-loader vulkan-swrast'],
    ['suse', false, 'sudo zypper --non-interactive install libvulkan1 libvulkan_lvp Mesa-vulkan-device-select'],
    ['alpine', true, 'apk add vulkan-loader mesa-vulkan-swrast'],
    ['void', true, null],
  ])('%s (root %s): prints %s', (name, root, command) => {
    const made = plan(name, root, '', '24.0.0');
    expect(made.kind).toBe('manual');
    if (made.kind === 'manual') expect(made.command).toBe(command);
  });

  it('knows families by ID_LIKE too', () => {
    expect(familyOf(parseOsRelease('ID=neon\nID_LIKE="ubuntu debian"'))).toBe('debian');
    expect(familyOf(parseOsRelease(''))).toBe('unknown');
  });
});

describe('small readings', () => {
  it.each<[string, number]>([
    ['25.0.7-2~bpo12+1', 25],
    ['1:9.1', 9],
    ['', 0],
    ['(none)', 0],
  ])('the major version of %s is %i', (text, expected) => expect(majorVersion(text)).toBe(expected));

  it('compares node_modules with the lock by version, optional packages of other platforms aside', () => {
    const lock = {
      packages: {
        '': {},
        'node_modules/a': { version: '1.0.0' },
        'node_modules/w': { version: '2.0.0', optional: true },
      },
    };
    const a = (version: string) => ({ packages: { 'node_modules/a': { version } } });
    expect(dependenciesMatch(lock, null)).toBe(false);
    expect(dependenciesMatch(lock, { packages: {} })).toBe(false);
    expect(dependenciesMatch(lock, a('1.0.1'))).toBe(false);
    expect(dependenciesMatch(lock, a('1.0.0'))).toBe(true);
  });
});
