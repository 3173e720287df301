import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Direction, isRightToLeft, visualRuns } from './visual-runs.ts'
import { woffToSfnt } from './woff-to-sfnt.ts'

// DejaVu Sans has Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic letters; the built-in fonts of PDF
// readers have only Western European ones. UnifontEX has nearly all others, drawn in pixels: Chinese, Japanese and
// Korean, the scripts of India, Thai, most emoji. Outline fonts of these are many times as large as everything else
// here. Each document contains only the part of a font that it uses.
const require = createRequire(import.meta.url)
const FILES = {
  regular: 'dejavu-fonts-ttf/ttf/DejaVuSans.ttf',
  bold: 'dejavu-fonts-ttf/ttf/DejaVuSans-Bold.ttf',
  stopgap: '@fontsource/unifontex/files/unifontex-latin-400-normal.woff',
} as const
type Face = keyof typeof FILES
const loaded = new Map<Face, Buffer>()
const fontOf = (face: Face): Buffer => {
  const known = loaded.get(face)
  if (known) return known
  const file = readFileSync(require.resolve(FILES[face]))
  const font = FILES[face].endsWith('.woff') ? woffToSfnt(file) : file
  loaded.set(face, font)
  return font
}

/** Invisible characters, except the two that control how letters join. */
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]+|(?![\u200c\u200d])\p{Cf}+/gu
const isJoiner = (letter: string) => letter === '\u200c' || letter === '\u200d'
/** Joiners and variation selectors, which UnifontEX would draw as boxes. */
const IGNORABLE = /\p{Default_Ignorable_Code_Point}/gu
/** Printable ASCII, most of what is written: every face has it, in one direction. */
const PLAIN = /^[ -~]*$/
/** What stands for a letter that no font has. */
const MISSING = '?'
// With `features`, none here, pdfkit shapes the whole piece at once: word by word, the last word of Arabic came first.
const SHAPED_AT_ONCE = { features: [] }
const shapedOf = (text: string) => (isRightToLeft(text) ? SHAPED_AT_ONCE : {})
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
/** Maximum UTF-16 units of one grapheme; longer ones are drawings made of marks. */
const LONGEST_LETTER = 16

/** The part of a pdfkit document that draws text; its types omit the current font. */
export type Drawing = {
  registerFont: (name: string, source: Buffer) => unknown
  font: (name: string, size?: number) => unknown
  fontSize: (size: number) => unknown
  fillColor: (colour: string) => unknown
  widthOfString: (text: string, options?: object) => number
  text: (text: string, x: number, y: number, options?: object) => unknown
}
type WithFont = {
  _font: { ascender: number; font: { hasGlyphForCodePoint: (codePoint: number) => boolean } }
}

export type Style = {
  size?: number
  bold?: boolean
  colour?: string
  right?: boolean
  /** Never cut: what does not fit is written smaller. */
  whole?: boolean
  /** Lines at most; by default one. What does not fit in the last one is cut. */
  lines?: number
}

/** Letters of one face in one direction, in reading order. */
type Piece = { text: string; face: Face; rightToLeft: boolean }

const INK = '#1a1a1a'
const LINE_HEIGHT = 1.35

export type TextWriter = {
  /** Writes a text into a box and returns the width and the height that it takes. */
  write: (
    text: string,
    x: number,
    y: number,
    width: number,
    style?: Style,
  ) => { width: number; height: number }
}

/**
 * Writes texts of any script into a document, each line as the Unicode bidirectional algorithm orders it. A letter that
 * no font has is shown as "?".
 */
export const createTextWriter = (doc: Drawing): TextWriter => {
  const known = new Map<Face, WithFont['_font']>()
  let face: Face = 'regular'
  let size = 8

  const loadFace = (wanted: Face): WithFont['_font'] => {
    let font = known.get(wanted)
    if (font) return font
    doc.registerFont(wanted, fontOf(wanted))
    doc.font(wanted, size)
    font = (doc as unknown as WithFont)._font
    known.set(wanted, font)
    return font
  }
  const useFace = (wanted: Face): void => {
    loadFace(wanted)
    doc.font(wanted, size)
  }
  const isIn = (wanted: Face, letter: string) => {
    const { font } = loadFace(wanted)
    return [...letter].every(part => isJoiner(part) || font.hasGlyphForCodePoint(part.codePointAt(0)!))
  }
  const faceOf = (letter: string): Face => (isIn(face, letter) ? face : 'stopgap')

  /** Splits a text into graphemes (letters with their marks), each of which some font has. */
  const lettersOf = (text: string): string[] =>
    Array.from(graphemes.segment(text.replace(UNSEEN, ' ')), ({ segment }) => {
      if (isIn(face, segment)) return segment
      const plain = segment.replace(IGNORABLE, '')
      return plain !== '' && isIn('stopgap', plain) ? plain : MISSING
    })

  /** The pieces of a line from left to right. */
  const piecesOf = (line: string, base: Direction | undefined): Piece[] =>
    PLAIN.test(line) && base !== 'rtl' ? [{ text: line, face, rightToLeft: false }] : piecesOfRuns(line, base)
  const piecesOfRuns = (line: string, base: Direction | undefined): Piece[] =>
    visualRuns(line, base).flatMap(({ text, rightToLeft }) => {
      const pieces: Piece[] = []
      for (const { segment } of graphemes.segment(text)) {
        const own = faceOf(segment)
        const last = pieces.at(-1)
        if (last?.face === own) last.text += segment
        else pieces.push({ text: segment, face: own, rightToLeft })
      }
      return rightToLeft ? pieces.reverse() : pieces
    })
  // The shaper orders by script: it does not reverse signs, and it reverses digits that go from left to right.
  const shownOf = ({ text, rightToLeft }: Piece) =>
    rightToLeft === isRightToLeft(text) ? text : [...text].reverse().join('')
  const widthOfPiece = (piece: Piece): number => {
    useFace(piece.face)
    return doc.widthOfString(shownOf(piece), shapedOf(piece.text))
  }
  const widthOf = (line: string, base: Direction | undefined): number =>
    piecesOf(line, base).reduce((sum, piece) => sum + widthOfPiece(piece), 0)

  const draw = (line: string, base: Direction | undefined, left: number, y: number): void => {
    const baseline = y + (loadFace(face).ascender / 1_000) * size
    let x = left
    for (const piece of piecesOf(line, base)) {
      const width = widthOfPiece(piece)
      doc.text(shownOf(piece), x, baseline, {
        lineBreak: false,
        baseline: 'alphabetic',
        ...shapedOf(piece.text),
      })
      x += width
    }
  }

  /** The number of letters, from the first on, that fit into a line together with its end. */
  const countFitting = (letters: string[], end: string, width: number): number => {
    let [fits, tooMany] = [0, letters.length + 1]
    while (tooMany - fits > 1) {
      const middle = Math.floor((fits + tooMany) / 2)
      if (widthOf(`${letters.slice(0, middle).join('')}${end}`, undefined) <= width) fits = middle
      else tooMany = middle
    }
    return fits
  }

  /** Breaks a text between words, or in a word that is longer than a line; the last line is cut to the width. */
  const breakLines = (text: string, width: number, most: number): string[] => {
    if (PLAIN.test(text) && text.length < width && widthOf(text, undefined) <= width) return [text]
    // No letter is narrower than a point: a longer text never fits and need not be measured.
    const bound = Math.floor(width) * most
    const letters = lettersOf(text.slice(0, LONGEST_LETTER * bound)).slice(0, bound)
    const lines: string[] = []
    let from = 0
    while (from < letters.length) {
      const rest = letters.slice(from, from + Math.floor(width))
      const fits = from + countFitting(rest, '', width)
      if (fits >= letters.length || from + 1 >= letters.length) {
        lines.push(letters.slice(from).join(''))
        break
      }
      if (lines.length + 1 === most) {
        lines.push(`${letters.slice(from, from + countFitting(rest, '…', width)).join('')}…`)
        break
      }
      const blank = letters.slice(from + 1, fits + 1).lastIndexOf(' ')
      const to = blank < 0 ? Math.max(fits, from + 1) : from + 1 + blank
      lines.push(letters.slice(from, to).join(''))
      from = letters[to] === ' ' ? to + 1 : to
    }
    return lines
  }

  return {
    write: (text, x, y, width, style = {}) => {
      if (text === '') return { width: 0, height: 0 }
      face = style.bold ? 'bold' : 'regular'
      size = style.size ?? 8
      useFace(face)
      doc.fillColor(style.colour ?? INK)
      if (style.whole) size = Math.min(size, (size * width) / doc.widthOfString(text))
      const lines = style.whole ? [text] : breakLines(text, width, style.lines ?? 1)
      // A later line of a right-to-left name stays right-to-left, even if it holds a number alone.
      const base = lines.length > 1 ? (visualRuns(text)[0]?.base ?? 'ltr') : undefined
      let widest = 0
      for (const [index, line] of lines.entries()) {
        const used = widthOf(line, base)
        const atY = y + index * size * LINE_HEIGHT
        draw(line, base, style.right ? x + width - used : x, atY)
        widest = Math.max(widest, used)
      }
      return { width: widest, height: lines.length * size * LINE_HEIGHT }
    },
  }
}
