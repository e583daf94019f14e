/** Rows of the comparison: medians, agreement of results, ratios, and joining files of different runs. */

export const us = 'matgan';

export function summary(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const quantile = (share) => {
    const at = share * (sorted.length - 1);
    const low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  return { medianMs: quantile(0.5), spreadMs: quantile(0.75) - quantile(0.25), samples: sorted.length };
}

/** The median over rounds of theirs/ours: what both had to share of the machine cancels. */
export const pairedRatio = (theirs, ours) =>
  summary(theirs.slice(0, ours.length).map((ms, round) => ms / ours[round])).medianMs;

/**
 * How far another's results are from ours: losses of each step (taken together) or digests, as shares of the norm.
 * Results that are missing or no numbers are infinitely far.
 */
export function difference(ours, theirs) {
  const far = (v) => (Number.isFinite(v) ? v : Number.POSITIVE_INFINITY);
  if (ours.losses) {
    return ours.losses.map((expected, k) => {
      let off = 0;
      let norm = 0;
      for (const [name, value] of Object.entries(expected)) {
        off += far(((theirs?.losses?.[k]?.[name] ?? Number.NaN) - value) ** 2);
        norm += value ** 2;
      }
      return Math.sqrt(off / norm);
    });
  }
  return Object.entries(ours).map(([name, { norm, dot }]) => {
    const other = theirs?.[name];
    // A random vector's product with the hash is about norm/√3.
    return far(
      Math.max(Math.abs((other?.norm ?? Number.NaN) - norm), Math.abs((other?.dot ?? Number.NaN) - dot)) / norm,
    );
  });
}

/** First step or digest, and later steps, which optimisers amplify: what a right result may be off. */
export const allowed = { first: 1e-3, later: 5e-2 };

/** What is wrong with another's results; undefined where nothing is. */
export function disagreement(ours, theirs) {
  const off = difference(ours, theirs);
  const wrong = off.findIndex((v, k) => !(v <= (ours.losses && k > 0 ? allowed.later : allowed.first)));
  if (wrong < 0) return undefined;
  const what = ours.losses ? `the losses of step ${wrong + 1}` : Object.keys(ours)[wrong];
  return `computes something else: ${what} off by ${Number.isFinite(off[wrong]) ? off[wrong].toPrecision(2) : 'no number'}`;
}

/** Our time for a peer's row, from rows of `matgan bench`; a convolution's forward and backward are three kernels. */
export function ourTime(name, ours) {
  const byName = new Map(ours.map((row) => [row.name, row]));
  const one = (...names) => names.map((n) => byName.get(n)).find((row) => row !== undefined);
  const direct = one(name);
  if (direct) return direct.medianMs;
  const conv = /^(conv2d|conv2dTranspose|conv2dWeightGrad) (.*) batch (\d+)$/.exec(name);
  if (conv) {
    const [, , what, batch] = conv;
    const kernels = ['conv2d', 'conv2dInputGrad', 'conv2dWeightGrad'].map((op) =>
      // Rows that name no batch are at 32.
      one(`${op} ${what} batch ${batch}`, ...(batch === '32' ? [`${op} ${what}`] : [])),
    );
    return kernels.every(Boolean) ? kernels.reduce((total, { medianMs }) => total + medianMs, 0) : undefined;
  }
  const matmul = /^matmul (\d+)$/.exec(name);
  if (matmul) {
    const [, n] = matmul;
    return ours.find((row) => row.name.startsWith('dense') && row.name.endsWith(` ${n}x${n}x${n}`))?.medianMs;
  }
  return undefined;
}

/** Rows of `matgan bench` and of torch_peer.py as rows of one table, with ratios of their medians. */
export function join(ours, peers) {
  const rows = [];
  for (const name of new Set(peers.filter(({ mode }) => mode).map((row) => row.name))) {
    const mine = ourTime(name, ours);
    const others = peers.filter((row) => row.name === name && row.mode);
    rows.push({
      framework: us,
      mode: '',
      name,
      ...(mine === undefined ? { why: 'no row of this name in our file' } : { medianMs: mine }),
    });
    for (const row of others) {
      rows.push({ ...row, ...(mine !== undefined && row.medianMs !== undefined && { ratio: row.medianMs / mine }) });
    }
  }
  return rows;
}

/** JSON or lines of JSON; of a report its rows. @throws Error that names the file */
export function parseRows(text, file) {
  try {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      value = text
        .split('\n')
        .filter((line) => line.trim())
        .map((line) => JSON.parse(line));
    }
    const rows = Array.isArray(value) ? value : (value.rows ?? [value]);
    if (!rows.every((row) => typeof row?.name === 'string')) throw new Error('rows without a name');
    return rows;
  } catch (error) {
    throw new Error(`${file}: it holds no rows (${error.message})`);
  }
}

/** Generating at each framework's own best batch, as rows in samples a second. */
export function bestBatches(rows) {
  const best = new Map();
  for (const { framework, mode, name, medianMs } of rows) {
    const batch = /^generate .* batch (\d+)$/.exec(name)?.[1];
    if (!batch || medianMs === undefined) continue;
    const key = `${framework}\n${mode}`;
    const perSecond = (1000 * Number(batch)) / medianMs;
    if (!(best.get(key)?.perSecond >= perSecond)) best.set(key, { framework, mode, batch: Number(batch), perSecond });
  }
  const mine = [...best.values()].find(({ framework, mode }) => framework === us && mode !== 'sleeping');
  return [...best.values()].map((row) => ({ ...row, ...(mine && { ratio: mine.perSecond / row.perSecond }) }));
}
