/** Randomness from a seed: the same seed draws the same values, on any machine. */
export type Random = {
  /** From 0 up to 1. */
  float: () => number
  /** A whole number from 0 up to `below`. */
  int: (below: number) => number
  chance: (probability: number) => boolean
  pick: <Item>(items: readonly Item[]) => Item
}

/**
 * sfc32 (Chris Doty-Humphrey, PractRand): small, fast, and equal on every machine because it is 32-bit integers only.
 */
export const createRandom = (seed: number): Random => {
  let [a, b, c, counter] = [seed | 0, (seed / 2 ** 32) | 0, 0x9e3779b9 | 0, 1]
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return (sum >>> 0) / 2 ** 32
  }
  // Discards the first draws, because seeds that differ in one bit draw alike at first.
  for (let i = 0; i < 16; i++) next()
  const int = (below: number) => Math.floor(next() * below)
  return {
    float: next,
    int,
    chance: probability => next() < probability,
    pick: items => items[int(items.length)]!,
  }
}
