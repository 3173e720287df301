/** The first row that breaks a promise, in human-readable form; undefined if none does. */
export type Broken = string | undefined

export const describe = (rows: readonly Record<string, unknown>[], what: string): Broken =>
  rows[0] &&
  `${what}: ${Object.entries(rows[0])
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')}`
