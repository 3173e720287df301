import { buffer } from 'node:stream/consumers'
import { receiptTime, receiptWords, typeWords } from '@pennywire/messages/receipt-words.ts'
import { moneyOf } from '@pennywire/messages/render-notice.ts'
import PDFDocument from 'pdfkit'
import { encode } from 'uqr'
import type { Receipt, ReceiptParty } from './describe-receipt.ts'
import { createTextWriter } from './text-writer.ts'

const MARGIN = 56
const [WIDTH, HEIGHT] = [595.28, 841.89] // A4 in points
const RIGHT = WIDTH - MARGIN
const VALUE_X = MARGIN + 130
const QR_SIZE = 112
const [GREY, RULE, PAPER] = ['#666666', '#cccccc', '#f4f4f4']
/** Of a name: more than the longest name takes, in letters of usual width. */
const NAME_LINES = 4

/** A receipt as PDF of one page (A4). The same receipt has the same bytes: nothing in them is of the moment. */
export const receiptPdf = async (receipt: Receipt): Promise<Uint8Array> => {
  const { language, side, currency } = receipt
  const words = receiptWords(language)
  const doc = new PDFDocument({
    size: 'A4',
    margin: 0,
    lang: language,
    displayTitle: true,
    info: {
      Title: `${words.title} ${receipt.reference}`,
      Author: 'Pennywire',
      CreationDate: receipt.completedAt,
      ModDate: receipt.completedAt,
    },
  })
  const bytes = buffer(doc)
  const { write } = createTextWriter(doc)
  const rule = (y: number) => doc.moveTo(MARGIN, y).lineTo(RIGHT, y).lineWidth(0.5).strokeColor(RULE).stroke()

  write('Pennywire', MARGIN, 56, 250, { bold: true, size: 18 })
  write(words.title, RIGHT - 230, 60, 230, { size: 13, colour: GREY, right: true })
  rule(92)

  const money = moneyOf(language, receipt.amount, currency)
  write(money, MARGIN, 118, RIGHT - MARGIN, { bold: true, size: 26, whole: true })
  write(side === 'sender' ? words.sent : words.received, MARGIN, 154, 300, { size: 11, colour: GREY })

  let y = 196
  const fact = (label: string, values: Array<[text: string, style: { bold?: boolean; colour?: string }]>) => {
    write(label, MARGIN, y, VALUE_X - MARGIN - 12, { size: 10, colour: GREY, lines: 2 })
    let height = 0
    for (const [text, style] of values) {
      const style10 = { ...style, size: 10.5, lines: NAME_LINES }
      height += write(text, VALUE_X, y + height, RIGHT - VALUE_X, style10).height + (text === '' ? 0 : 2)
    }
    y += Math.max(height, 16) + 10
    rule(y - 5)
    y += 5
  }
  const party = (label: string, of: ReceiptParty | null) =>
    fact(
      label,
      of === null
        ? [[words.outside, {}]]
        : [
            [of.name, { bold: true }],
            [`${words.wallet} ${of.walletCode}`, {}],
          ],
    )
  party(words.from, receipt.from)
  party(words.to, receipt.to)
  fact(words.type, [[typeWords(language, receipt.type), {}]])
  fact(words.time, [[receiptTime(receipt.completedAt), {}]])
  fact(words.reference, [[receipt.reference, { bold: true }]])
  fact(words.id, [[receipt.transferId, { colour: GREY }]])

  const boxY = HEIGHT - 56 - QR_SIZE - 32
  doc.rect(MARGIN, boxY, RIGHT - MARGIN, QR_SIZE + 32).fill(PAPER)
  const { data, size } = encode(receipt.checkUrl, { ecc: 'M', border: 0 })
  const module = QR_SIZE / size
  const [qrX, qrY] = [RIGHT - 16 - QR_SIZE, boxY + 16]
  for (const [row, line] of data.entries()) {
    for (const [column, dark] of line.entries()) {
      if (dark) doc.rect(qrX + column * module, qrY + row * module, module, module)
    }
  }
  doc.fill('#000000')
  const textWidth = qrX - MARGIN - 40
  let textY = boxY + 16
  const line = (text: string, style: { size: number; bold?: boolean; colour?: string; whole?: boolean }) => {
    const { height } = write(text, MARGIN + 16, textY, textWidth, { lines: 6, ...style })
    textY += height + 3
  }
  line(words.check.title, { size: 10, bold: true })
  line(words.check.how, { size: 8 })
  textY += 3
  line(words.check.code, { size: 7, colour: GREY })
  line(receipt.code, { size: 12, bold: true, whole: true })
  line(words.check.address, { size: 7, colour: GREY })
  line(receipt.checkUrl.split('?')[0]!, { size: 8, whole: true })
  doc.end()
  return bytes
}
