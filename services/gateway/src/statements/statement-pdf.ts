import { once } from 'node:events'
import { PassThrough, type Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createTextWriter, type Style } from '@pennywire/documents/text-writer.ts'
import PDFDocument from 'pdfkit'
import type { Statement, StatementLine } from './statement.ts'

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

/** The number of pages for the lines, the closing balance included as one more line. */
export const pagesFor = (lines: number): number =>
  1 + Math.max(0, Math.ceil((lines + 1 - FIRST_ROWS) / NEXT_ROWS))

/**
 * A statement as PDF (A4), written as the lines arrive. The stream fails if they fail; destroying it ends the reading.
 */
export const statementPdf = (statement: Statement, pages: AsyncIterable<StatementLine[]>): Readable => {
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
  const out = new PassThrough()
  doc.on('error', error => out.destroy(error))
  doc.pipe(out)

  const total = pagesFor(statement.count)
  let page = 0
  let y = 0

  const writer = createTextWriter(doc)
  const write = (text: string, x: number, atY: number, width: number, style: Style = {}): number =>
    writer.write(text, x, atY, width, style).width
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
