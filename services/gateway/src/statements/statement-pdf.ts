import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { PassThrough, type Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import PDFDocument from 'pdfkit'
import type { Statement, StatementLine } from './statement.ts'
import { isRightToLeft, visualRuns } from './visual-runs.ts'

const MARGIN = 40
const [WIDTH, HEIGHT] = [595.28, 841.89] // A4 in points
const RIGHT = WIDTH - MARGIN
const FOOTER_Y = HEIGHT - 46
const ROW = 25
const FIRST_TOP = 236
const NEXT_TOP = 92
const BOTTOM = FOOTER_Y - 12
const FIRST_ROWS = Math.floor((BOTTOM - FIRST_TOP) / ROW)
const NEXT_ROWS = Math.floor((BOTTOM - NEXT_TOP) / ROW)

const COLUMNS = {
  date: { x: MARGIN, width: 88 },
  type: { x: 136, width: 88 },
  counterparty: { x: 228, width: 152 },
  amount: { x: 384, width: 84 },
  balance: { x: 472, width: RIGHT - 472 },
} as const

const CODE_WIDTH = 72
const [INK, GREY, RULE] = ['#1a1a1a', '#666666', '#cccccc']

// DejaVu Sans has Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic letters; the built-in fonts of PDF
// readers have only Western European ones. Each document contains only the part of it that it uses.
const require = createRequire(import.meta.url)
const fontFile = (name: string) => readFileSync(require.resolve(`dejavu-fonts-ttf/ttf/${name}.ttf`))
let fonts: { regular: Buffer; bold: Buffer } | undefined
const loadFonts = () => {
  fonts ??= { regular: fontFile('DejaVuSans'), bold: fontFile('DejaVuSans-Bold') }
  return fonts
}

/** Invisible characters, except the two that control how letters join. */
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}]+|(?![\u200c\u200d])\p{Cf}+/gu
const isJoiner = (letter: string) => letter === '\u200c' || letter === '\u200d'
const SHAPED_AT_ONCE = { features: [] }
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
/** Maximum UTF-16 units of one grapheme; longer ones are drawings made of marks. */
const LONGEST_LETTER = 16

/** pdfkit's current font, which its types omit. */
type WithFont = { _font: { font: { hasGlyphForCodePoint: (codePoint: number) => boolean } } }

/** The number of pages for the lines, the closing balance included as one more line. */
export const pagesFor = (lines: number): number =>
  1 + Math.max(0, Math.ceil((lines + 1 - FIRST_ROWS) / NEXT_ROWS))

/**
 * A statement as PDF (A4), written as the lines arrive. The stream fails if they fail; destroying it ends the reading.
 * Letters that the font lacks are shown as "?", always beside the wallet's code: Chinese, Japanese, Korean, the scripts
 * of India, Thai, and most emoji, whose fonts are many times as large as everything else here.
 */
export const statementPdf = (statement: Statement, pages: AsyncIterable<StatementLine[]>): Readable => {
  const { regular, bold } = loadFonts()
  const doc = new PDFDocument({
    size: 'A4',
    margin: 0,
    autoFirstPage: false,
    info: {
      Title: `Statement ${statement.code} ${statement.from} to ${statement.to}`,
      Author: 'Pennywire',
      CreationDate: statement.now,
    },
  })
  doc.registerFont('regular', regular).registerFont('bold', bold)
  const out = new PassThrough()
  doc.on('error', error => out.destroy(error))
  doc.pipe(out)

  const total = pagesFor(statement.count)
  let page = 0
  let y = 0

  /** Splits a text into graphemes (letters with their marks); a grapheme that the font lacks is "?". */
  const lettersOf = (text: string): string[] => {
    const { font } = (doc as unknown as WithFont)._font
    const hasGlyphs = (letter: string) =>
      [...letter].every(part => isJoiner(part) || font.hasGlyphForCodePoint(part.codePointAt(0)!))
    return Array.from(graphemes.segment(text.replace(UNSEEN, ' ')), ({ segment }) =>
      hasGlyphs(segment) ? segment : '?',
    )
  }
  // With `features`, none here, pdfkit shapes the whole piece at once: word by word, the last word of Arabic came
  // first.
  const shapedOf = (text: string) => (isRightToLeft(text) ? SHAPED_AT_ONCE : {})
  const widthOf = (text: string): number =>
    visualRuns(text).reduce((sum, run) => sum + doc.widthOfString(run.text, shapedOf(run.text)), 0)
  const draw = (text: string, left: number, atY: number): void => {
    let x = left
    for (const { text: run, rightToLeft } of visualRuns(text)) {
      const shaped = shapedOf(run)
      // The shaper orders by script: it does not reverse signs, and it reverses digits that go from left to right.
      const shown = rightToLeft === isRightToLeft(run) ? run : [...run].reverse().join('')
      doc.text(shown, x, atY, { lineBreak: false, ...shaped })
      x += doc.widthOfString(shown, shaped)
    }
  }
  /** Cuts a text to the width of one line. */
  const fit = (text: string, width: number): string => {
    // No letter is narrower than a point: a longer text never fits and need not be measured.
    const letters = lettersOf(text.slice(0, LONGEST_LETTER * Math.floor(width))).slice(0, Math.floor(width))
    const whole = letters.join('')
    if (letters.length <= 8 || widthOf(whole) <= width) return whole
    let [fits, tooMany] = [0, letters.length]
    while (tooMany - fits > 1) {
      const middle = Math.floor((fits + tooMany) / 2)
      if (widthOf(`${letters.slice(0, middle).join('')}…`) <= width) fits = middle
      else tooMany = middle
    }
    return `${letters.slice(0, fits).join('')}…`
  }
  type Style = { size?: number; bold?: boolean; colour?: string; right?: boolean; whole?: boolean }
  const write = (text: string, x: number, atY: number, width: number, style: Style = {}): number => {
    if (text === '') return 0
    const size = style.size ?? 8
    doc.font(style.bold ? 'bold' : 'regular', size).fillColor(style.colour ?? INK)
    // An amount is never cut off: if it does not fit, it is written smaller.
    if (style.whole) doc.fontSize(Math.min(size, (size * width) / doc.widthOfString(text)))
    const shown = style.whole ? text : fit(text, width)
    const used = widthOf(shown)
    draw(shown, style.right ? x + width - used : x, atY)
    return used
  }
  const rule = (atY: number, colour = RULE) =>
    doc.moveTo(MARGIN, atY).lineTo(RIGHT, atY).lineWidth(0.5).strokeColor(colour).stroke()

  const columnHeads = (atY: number) => {
    const head = { bold: true, size: 7.5, colour: GREY }
    write('Date and time (UTC)', COLUMNS.date.x, atY, COLUMNS.date.width, head)
    write('Type, reference', COLUMNS.type.x, atY, COLUMNS.type.width, head)
    write('Counterparty, your note', COLUMNS.counterparty.x, atY, COLUMNS.counterparty.width, head)
    write('Amount', COLUMNS.amount.x, atY, COLUMNS.amount.width, { ...head, right: true })
    write('Balance', COLUMNS.balance.x, atY, COLUMNS.balance.width, { ...head, right: true })
    rule(atY + 13, INK)
  }

  const beginPage = () => {
    doc.addPage()
    page++
    const { code, currency, from, to } = statement
    if (page === 1) {
      write('Pennywire', MARGIN, 44, 200, { bold: true, size: 16 })
      write('Statement', MARGIN, 66, 200, { size: 11, colour: GREY })
      write(statement.ownerName, 300, 44, RIGHT - 300, { bold: true, size: 10, right: true })
      write(`Wallet ${code} (${currency})`, 300, 59, RIGHT - 300, { size: 9, right: true })
      write(`${from} to ${to}, UTC days`, 300, 72, RIGHT - 300, { size: 9, right: true })
      const made = `Made ${statement.now.toISOString().slice(0, 19).replace('T', ' ')} UTC`
      write(made, 300, 85, RIGHT - 300, { size: 8, colour: GREY, right: true })
      rule(112, INK)
      const quarter = (RIGHT - MARGIN) / 4
      const sums: Array<[string, string]> = [
        [`Balance before ${from}`, statement.opening],
        ['Money in', `+${statement.sumIn}`],
        ['Money out', `−${statement.sumOut}`],
        [`Balance after ${to}`, statement.closing],
      ]
      for (const [index, [label, amount]] of sums.entries()) {
        const x = MARGIN + index * quarter
        write(label, x, 126, quarter - 14, { size: 7.5, colour: GREY })
        write(amount, x, 139, quarter - 14, { bold: true, size: 11, whole: true })
        write(currency, x, 155, quarter - 14, { size: 7.5, colour: GREY })
      }
      rule(176)
      const entries = `${statement.count} ${statement.count === 1 ? 'entry' : 'entries'}`
      write(entries, MARGIN, 190, 200, { size: 9, bold: true })
      columnHeads(214)
      y = FIRST_TOP
    } else {
      write(`Wallet ${code} (${currency}), ${from} to ${to}`, MARGIN, 44, 400, { size: 9, colour: GREY })
      columnHeads(NEXT_TOP - 22)
      y = NEXT_TOP
    }
    rule(FOOTER_Y)
    write('Opening balance + money in − money out = closing balance', MARGIN, FOOTER_Y + 8, 380, {
      size: 7.5,
      colour: GREY,
    })
    write(`Page ${page} of ${total}`, RIGHT - 120, FOOTER_Y + 8, 120, {
      size: 7.5,
      colour: GREY,
      right: true,
    })
  }

  const writeLine = (line: StatementLine) => {
    if (y + ROW > BOTTOM) beginPage()
    const { date, type, counterparty, amount, balance } = COLUMNS
    const [day, time] = line.at.toISOString().slice(0, 19).split('T')
    write(`${day} ${time}`, date.x, y, date.width)
    write(line.type.replaceAll('_', ' '), type.x, y, type.width)
    write(line.reference, type.x, y + 10, type.width, { size: 7, colour: GREY })
    // Name and code are drawn apart: a right-to-left name would reverse the code with it.
    const named = write(line.counterparty, counterparty.x, y, counterparty.width - CODE_WIDTH)
    const codeX = counterparty.x + (named === 0 ? 0 : named + 6)
    write(line.counterpartyCode, codeX, y, CODE_WIDTH - 6)
    if (line.note !== '') {
      write(line.note, counterparty.x, y + 10, counterparty.width, { size: 7, colour: GREY })
    }
    write(line.amount.replace('-', '−'), amount.x, y, amount.width, { right: true, whole: true })
    write(line.balance.replace('-', '−'), balance.x, y, balance.width, { right: true, whole: true })
    rule(y + ROW - 5, '#eeeeee')
    y += ROW
  }

  const build = async () => {
    beginPage()
    let written = 0
    for await (const lines of pages) {
      for (const line of lines) {
        if (out.destroyed) return
        writeLine(line)
        // Yields to other work of this process, and waits for a slow reader.
        if (++written % 25 === 0) {
          await nextTurn()
          if (out.writableNeedDrain) await Promise.race([once(out, 'drain'), once(out, 'close')])
        }
      }
    }
    if (y + ROW > BOTTOM) beginPage()
    write(`Balance after ${statement.to}`, COLUMNS.type.x, y, 250, { bold: true })
    write(statement.closing, COLUMNS.balance.x, y, COLUMNS.balance.width, {
      bold: true,
      right: true,
      whole: true,
    })
    doc.end()
  }
  build().catch(error => out.destroy(error as Error))
  return out
}
