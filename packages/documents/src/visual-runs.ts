import bidiFactory from 'bidi-js'

// The package's types declare `export default`; Node imports the function itself from its CommonJS build.
const bidi = (bidiFactory as unknown as typeof bidiFactory.default)()

/** The characters of right-to-left scripts, including their digits, although these go from left to right. */
const RIGHT_TO_LEFT =
  /[\p{scx=Hebr}\p{scx=Arab}\p{scx=Syrc}\p{scx=Thaa}\p{scx=Nkoo}\p{scx=Adlm}\p{scx=Samr}\p{scx=Mand}]/u

/** A piece of a line in one direction. Its text is in reading order: the shaper reverses it. */
export type VisualRun = { text: string; rightToLeft: boolean; base: Direction }
/** The direction of a whole line. */
export type Direction = 'ltr' | 'rtl'

/**
 * Splits a line into runs from left to right, as the Unicode bidirectional algorithm (UAX #9) orders them: a Hebrew
 * name with a number in it has three. Brackets in right-to-left runs are mirrored. Without a direction, the first letter
 * decides that of the line.
 */
export const visualRuns = (line: string, direction?: Direction): VisualRun[] => {
  if (!RIGHT_TO_LEFT.test(line) && direction !== 'rtl') {
    return [{ text: line, rightToLeft: false, base: 'ltr' }]
  }
  const { levels, paragraphs } = bidi.getEmbeddingLevels(line, direction ?? 'auto')
  const base = (paragraphs[0]?.level ?? 0) % 2 === 1 ? 'rtl' : 'ltr'
  const mirrored = bidi.getMirroredCharactersMap(line, levels)
  const runs: Array<{ text: string; level: number }> = []
  for (let at = 0; at < line.length; at++) {
    const level = levels[at]!
    const character = mirrored.get(at) ?? line[at]!
    const last = runs.at(-1)
    if (last && last.level === level) last.text += character
    else runs.push({ text: character, level })
  }
  // UAX #9, L2: from the highest level down to the lowest odd one, reverse every sequence at that level or above.
  const highest = Math.max(...runs.map(({ level }) => level))
  for (let level = highest; level >= 1; level--) {
    for (let from = 0; from < runs.length; from++) {
      let to = from
      while (to < runs.length && runs[to]!.level >= level) to++
      if (to > from) runs.splice(from, to - from, ...runs.slice(from, to).reverse())
      from = to
    }
  }
  return runs.map(({ text, level }) => ({ text, rightToLeft: level % 2 === 1, base }))
}

/** Whether a shaper that orders by script reverses a piece by itself. */
export const isRightToLeft = (text: string): boolean => RIGHT_TO_LEFT.test(text)
