// What is drawn, in the order from left to right: the pieces, and the glyphs that the shaper makes of them.
import PDFDocument from 'pdfkit'
import { describe, expect, test } from 'vitest'
import { createTextWriter, type Style } from './text-writer.ts'

type Drawn = { text: string; x: number; y: number; font: string; options: { features?: [] } }

const drawn = (text: string, { width = 500, ...style }: Style & { width?: number } = {}) => {
  const doc = new PDFDocument({ size: 'A4', margin: 0 })
  const pieces: Drawn[] = []
  const { text: write } = doc
  doc.text = ((text: string, x: number, y: number, options: Drawn['options']) => {
    const { name } = (doc as unknown as { _font: { name: string } })._font
    pieces.push({ text, x, y, font: name, options })
    return (write as (...all: unknown[]) => typeof doc).call(doc, text, x, y, options)
  }) as typeof doc.text
  const taken = createTextWriter(doc).write(text, 10, 10, width, style)
  return { pieces, taken, doc }
}

/** The letters of a piece as its shaper puts them from left to right: right-to-left ones are reversed. */
const seen = (text: string) =>
  /[\p{scx=Hebr}\p{scx=Arab}]/u.test(text) ? [...text].reverse().join('') : text
const line = (text: string, style: Style & { width?: number } = {}) =>
  drawn(text, style)
    .pieces.map(({ text }) => seen(text))
    .join('')

test.each([
  ['Alice Smith', 'Alice Smith'],
  ['אבי כהן', 'ןהכ יבא'],
  ['محمد علي', 'يلع دمحم'],
  ['אבי Smith כהן 12', '12 ןהכ Smith יבא'],
  ['Ali علي x', 'Ali يلع x'],
  ['(אבי) כהן', 'ןהכ (יבא)'],
])('%j is drawn as %j', (text, visual) => expect(line(text)).toBe(visual))

test('each piece stands where the one to its left ends', () => {
  const { pieces, taken } = drawn('אבי Smith כהן 12')
  expect(pieces.length).toBeGreaterThan(2)
  for (const [index, { x }] of pieces.slice(1).entries()) expect(x).toBeGreaterThan(pieces[index]!.x)
  expect(pieces.at(-1)!.x).toBeLessThan(10 + taken.width)
})

test('Arabic letters are joined: their glyphs differ from those of letters that stand alone', () => {
  const { doc } = drawn('محمد')
  const { font } = (
    doc as unknown as {
      _font: { font: { layout: (text: string) => { glyphs: { id: number }[] } } }
    }
  )._font
  const together = font.layout('محمد').glyphs.map(({ id }) => id)
  const alone = [...'محمد'].reverse().map(letter => font.layout(letter).glyphs[0]!.id)
  expect(together).toHaveLength(4)
  expect(together.filter((id, index) => id === alone[index])).toHaveLength(0)
})

describe('letters that the usual font lacks', () => {
  test.each(['田中 太郎', '김철수', 'สมชาย', 'राम', '👩', 'አበበ'])('%s is drawn by the other font', text => {
    const { pieces } = drawn(text)
    expect(pieces.map(({ text }) => text).join('')).toBe(text)
    expect(pieces.some(({ font }) => /Unifont/i.test(font))).toBe(true)
  })

  test('that no font has are shown as question marks; invisible ones are blanks', () => {
    expect(line('a\u{1fae8}b')).toBe('a?b')
    expect(line('a\u{10ffff}b')).toBe('a?b')
    expect(line('evil\u202egnp.exe')).toBe('evil gnp.exe')
    expect(line('a\u0000\ud800b\nc')).toBe('a b c')
    expect(line('👩\u200d👩\ufe0f')).toBe('👩👩')
  })
})

describe('a text that is too long', () => {
  test('is cut in one line', () => {
    const { pieces, taken } = drawn('W'.repeat(5_000), { width: 100 })
    expect(pieces.map(({ text }) => text).join('')).toMatch(/^W+…$/)
    expect(taken.width).toBeLessThanOrEqual(100)
  })

  test('is broken between words into the lines that it may have, and the last one is cut', () => {
    const words = Array.from({ length: 40 }, (_, index) => `word${index}`).join(' ')
    const { pieces, taken } = drawn(words, { width: 100, lines: 3 })
    const lines = [...new Set(pieces.map(({ y }) => y))].map(y =>
      pieces
        .filter(piece => piece.y === y)
        .map(({ text }) => text)
        .join(''),
    )
    expect(lines).toHaveLength(3)
    expect(words.startsWith(lines.slice(0, 2).join(' '))).toBe(true)
    expect(lines[2]).toMatch(/…$/)
    expect(taken.width).toBeLessThanOrEqual(100)
  })

  test('in a right-to-left script keeps its direction in every line', () => {
    const lineTexts = drawn('אבי ABC!', { width: 26, lines: 9 }).pieces
    expect(lineTexts.map(({ text }) => text)).toEqual(['אבי', '!', 'ABC'])
    expect(new Set(lineTexts.map(({ y }) => y)).size).toBe(2)
    // In a line of its own direction the sign would stand behind.
    expect(drawn('ABC!', { width: 26 }).pieces.map(({ text }) => text)).toEqual(['ABC!'])
  })

  test('that must be whole is written smaller', () => {
    const { pieces, taken } = drawn('90071992547409.90', { width: 40, whole: true, size: 20 })
    expect(pieces.map(({ text }) => text).join('')).toBe('90071992547409.90')
    expect(taken.width).toBeLessThanOrEqual(40.001)
  })
})
