// Receipts as PDF: asked for, made, attached to mails, and checked by anybody who holds one.
import { randomUUID } from 'node:crypto'
import { describeReceipt } from '@pennywire/documents/describe-receipt.ts'
import { createReceiptCodes } from '@pennywire/documents/receipt-code.ts'
import { receiptPdf } from '@pennywire/documents/receipt-pdf.ts'
import { jsonFile } from '@pennywire/runtime/config.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { macKeys } from '@pennywire/runtime/mac-keys.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { ask, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const soon = { timeout: 20_000, interval: 50 }

let sql: Database
let alice: Person
let bob: Person
let mallory: Person
let from: Wallet
let to: Wallet
let transfer: { id: string; reference: string; completedAt: string }

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  ;[alice, bob, mallory] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('محمد علي'),
    makePerson('Mallory'),
  ])
  ;[from, to] = await Promise.all([openWallet(alice, 'USD', '500'), openWallet(bob, 'USD')])
  transfer = await pay('12.50')
})
afterAll(() => sql.end())

const pay = async (amount: string) => {
  const sent = await send(alice, to, amount)
  expect(sent.status).toBe(201)
  return sent.body
}

const read = (person: Person, id: string) =>
  fetch(`${inject('system').gatewayUrl}/v1/transfers/${id}/receipt`, {
    headers: { authorization: `Bearer ${person.token}` },
  })
/** Asks for a receipt and waits until it is made. */
const receiptOf = async (person: Person, id: string, query = ''): Promise<Buffer> => {
  const asked = await person.ask('POST', `/v1/transfers/${id}/receipt${query}`)
  expect([200, 202]).toContain(asked.status)
  return vi.waitFor(async () => {
    const response = await read(person, id)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/pdf')
    return Buffer.from(await response.arrayBuffer())
  }, soon)
}
const pagesIn = (pdf: Buffer) => [...pdf.toString('latin1').matchAll(/\/Type \/Page\b/g)]

/** The check code of a side's receipt, computed as the gateway does, with its key. */
const codeFor = async (
  side: 'sender' | 'recipient',
  of: { id: string; completedAt: string },
  amount = 1_250n,
) => {
  const keys = jsonFile(macKeys).parse(`${inject('system').dataDir}/keys/receipt.json`)
  const completedAt = new Date(of.completedAt)
  return createReceiptCodes(keys).codeOf({ transferId: of.id, amount, currency: 'USD', completedAt, side })
}
const check = (reference: string, code: string) =>
  ask('GET', `/v1/receipts/verify?${new URLSearchParams({ reference, code })}`)

describe('a receipt', () => {
  test('is asked for, waits, and is a PDF of one page for either side; a repeat is the same file', async () => {
    const own = await pay('1')
    const none = await alice.ask('GET', `/v1/transfers/${own.id}/receipt`)
    expect([none.status, none.body.code]).toEqual([404, 'RECEIPT_NOT_FOUND'])
    const asked = await alice.ask('POST', `/v1/transfers/${own.id}/receipt`)
    expect([asked.status, asked.body]).toEqual([202, { transferId: own.id, status: 'waiting' }])
    expect(asked.headers.get('location')).toBe(`/v1/transfers/${own.id}/receipt`)
    const pdf = await receiptOf(alice, own.id)
    expect(pdf.subarray(0, 5).toString()).toBe('%PDF-')
    expect(pagesIn(pdf)).toHaveLength(1)
    expect((await read(alice, own.id)).headers.get('content-disposition')).toBe(
      `attachment; filename="receipt-${own.reference}.pdf"`,
    )
    const again = await alice.ask('POST', `/v1/transfers/${own.id}/receipt`)
    expect([again.status, again.body.status]).toEqual([200, 'made'])
    // Made anew it has the same bytes.
    await sql`delete from gateway.receipts where transfer_id = ${own.id}`
    expect(pdf.equals(await receiptOf(alice, own.id))).toBe(true)
    const theirs = await receiptOf(bob, own.id)
    expect(pagesIn(theirs)).toHaveLength(1)
    expect(theirs.equals(pdf)).toBe(false)
  })

  test('comes in the language asked for, else in the one chosen, else in that of the request', async () => {
    const own = await pay('1')
    const path = `/v1/transfers/${own.id}/receipt`
    const languageOf = async () =>
      (await sql`select language from gateway.receipts where transfer_id = ${own.id}`)[0]!.language
    await alice.ask('POST', path, undefined, { 'accept-language': 'de-DE, en;q=0.5' })
    expect(await languageOf()).toBe('de')
    const german = await receiptOf(alice, own.id, '?language=de')
    const english = await receiptOf(alice, own.id, '?language=en')
    expect(await languageOf()).toBe('en')
    await vi.waitFor(async () => {
      const now = Buffer.from(await (await read(alice, own.id)).arrayBuffer())
      expect(now.equals(german)).toBe(false)
    }, soon)
    expect(english.equals(german)).toBe(false)
    const unknown = await alice.ask('POST', `${path}?language=xx`)
    expect([unknown.status, unknown.body.errors[0].field]).toEqual([422, 'language'])
  })

  test('is stored as cipher: no name stands in the table', async () => {
    await receiptOf(alice, transfer.id)
    const [row] = await sql`select pdf from gateway.receipts where transfer_id = ${transfer.id}`
    expect((row!.pdf as Buffer).toString('latin1')).not.toContain('%PDF')
    expect((row!.pdf as Buffer).toString('latin1')).not.toContain(Buffer.from('%PDF-').toString('base64'))
  })

  test('is for the sides of the transfer alone, each for their own', async () => {
    await receiptOf(alice, transfer.id)
    const [asked, got] = [
      await mallory.ask('POST', `/v1/transfers/${transfer.id}/receipt`),
      await mallory.ask('GET', `/v1/transfers/${transfer.id}/receipt`),
    ]
    expect([asked.status, asked.body.code]).toEqual([404, 'TRANSFER_NOT_FOUND'])
    expect([got.status, got.body.code]).toEqual([404, 'RECEIPT_NOT_FOUND'])
    // The other side has not asked for theirs.
    const other = await bob.ask('GET', `/v1/transfers/${transfer.id}/receipt`)
    expect([other.status, other.body.code]).toEqual([404, 'RECEIPT_NOT_FOUND'])
  })

  test('is refused for what moved no money: a rejected transfer and a hold', async () => {
    const headers = () => ({ 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp })
    const key = randomUUID()
    const much = { toWalletId: to.id, amount: '900', currency: 'USD' }
    await alice.ask('POST', '/v1/transfers', much, { ...headers(), 'idempotency-key': key })
    const rejected = (await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)).body
    const held = await alice.ask(
      'POST',
      '/v1/holds',
      { toWalletId: to.id, amount: '3', currency: 'USD' },
      headers(),
    )
    for (const id of [rejected.id, held.body.id]) {
      const answer = await alice.ask('POST', `/v1/transfers/${id}/receipt`)
      expect([answer.status, answer.body.code]).toEqual([409, 'TRANSFER_NOT_COMPLETED'])
    }
    // Once it is captured it is a transfer.
    const captured = await bob.ask('POST', `/v1/holds/${held.body.id}/capture`, {}, headers())
    expect(captured.status).toBe(201)
    expect(pagesIn(await receiptOf(bob, held.body.id))).toHaveLength(1)
  })

  test('of a deposit shows the world outside', async () => {
    const [deposit] = (await alice.ask('GET', '/v1/transfers?type=deposit')).body.items
    expect(pagesIn(await receiptOf(alice, deposit.id))).toHaveLength(1)
    const code = await codeFor('recipient', deposit, 50_000n)
    const { body } = await check(deposit.reference, code)
    expect(body).toMatchObject({ side: 'recipient', fromWalletCode: null, toWalletCode: from.code })
  })

  test('waits in a queue that is bounded by user and in all', async () => {
    // Rows that no gateway takes yet.
    const fill = (userId: string, count: number) => sql`
      insert into gateway.receipts (transfer_id, user_id, language, next_attempt_at)
      select gen_random_uuid(), ${userId}, 'en', now() + interval '1 hour' from generate_series(1, ${count}::int)`
    const own = await pay('1')
    try {
      await fill(alice.id, 20)
      const many = await alice.ask('POST', `/v1/transfers/${own.id}/receipt`)
      expect([many.status, many.body.code]).toEqual([429, 'RATE_LIMIT_EXCEEDED'])
      await fill(mallory.id, 1_000)
      const full = await bob.ask('POST', `/v1/transfers/${own.id}/receipt`)
      expect([full.status, full.body.code]).toEqual([503, 'SERVICE_UNAVAILABLE'])
      expect(full.headers.get('retry-after')).not.toBeNull()
    } finally {
      await sql`delete from gateway.receipts where pdf is null`
    }
    expect(pagesIn(await receiptOf(bob, own.id))).toHaveLength(1)
  })
})

describe('whether it is authentic', () => {
  test('is told to anybody by reference and code, with what to compare and without names', async () => {
    for (const side of ['sender', 'recipient'] as const) {
      const { status, body } = await check(transfer.reference, await codeFor(side, transfer))
      expect(status).toBe(200)
      expect(body).toEqual({
        authentic: true,
        side,
        reference: transfer.reference,
        type: 'transfer',
        amount: '12.50',
        currency: 'USD',
        completedAt: transfer.completedAt,
        fromWalletCode: from.code,
        toWalletCode: to.code,
        reversedAmount: '0.00',
      })
    }
  })

  test('the code stands on the receipt itself', async () => {
    // The address in the QR code and the code are drawn; the same bytes come of no other code.
    const code = await codeFor('sender', transfer)
    const made = (code: string) =>
      receiptPdf(
        describeReceipt({
          transfer: {
            ...{ id: transfer.id, type: 'transfer', amount: 1_250n, currency: 'USD' },
            completedAt: new Date(transfer.completedAt),
            from: { userId: alice.id, code: from.code },
            to: { userId: bob.id, code: to.code },
          },
          ...{ userId: alice.id, side: 'sender', language: 'en' },
          names: new Map([
            [alice.id, 'Alice Smith'],
            [bob.id, 'محمد علي'],
          ]),
          codes: { codeOf: () => code },
          publicUrl: inject('system').gatewayUrl,
        }),
      )
    const pdf = await receiptOf(alice, transfer.id)
    expect(pdf.equals(await made(code))).toBe(true)
    expect(pdf.equals(await made('0000-0000-0000-0000-0000'))).toBe(false)
  })

  test('a forged, changed or borrowed code is refused, and so is a reference that is none', async () => {
    const code = await codeFor('sender', transfer)
    const other = await pay('12.50')
    const changed = `${code.slice(0, -1)}${code.endsWith('Z') ? 'Y' : 'Z'}`
    const answers = await Promise.all([
      check(transfer.reference, changed),
      check(other.reference, code),
      check(transfer.reference, await codeFor('sender', transfer, 125_000n)),
      check('TXN-000000000000', code),
      check('no reference', code),
      check(transfer.reference, 'no code'),
    ])
    for (const { status, body } of answers) {
      expect([status, body.code]).toEqual([404, 'RECEIPT_NOT_AUTHENTIC'])
      // One answer to all: it does not say whether there is such a transfer.
      expect({ ...body, requestId: null }).toEqual({ ...answers[0].body, requestId: null })
    }
  })

  test('a question without reference or code is told what is missing', async () => {
    const { status, body } = await ask('GET', '/v1/receipts/verify?code=x')
    expect([status, body.errors]).toEqual([422, [{ field: 'reference', rule: 'is required' }]])
  })

  test('a browser gets a page: a form, what is authentic, and what is not', async () => {
    const page = async (query: Record<string, string>, language = 'en') => {
      const url = `${inject('system').gatewayUrl}/v1/receipts/verify?${new URLSearchParams(query)}`
      const headers = { accept: 'text/html,application/xhtml+xml', 'accept-language': language }
      const response = await fetch(url, { headers })
      expect(response.headers.get('content-type')).toMatch(/^text\/html/)
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
      expect(response.headers.get('cache-control')).toBe('no-store')
      return { status: response.status, text: await response.text() }
    }
    const { reference } = transfer
    const form = await page({})
    expect(form.status).toBe(200)
    expect(form.text).toContain('<form method="get" action="/v1/receipts/verify">')
    const code = await codeFor('sender', transfer)
    const right = await page({ reference, code })
    expect(right.status).toBe(200)
    expect(right.text).toContain('This receipt is authentic.')
    for (const fact of ['12.50 USD', reference, from.code, to.code]) expect(right.text).toContain(fact)
    expect(right.text).not.toMatch(/Alice|Smith|محمد/)
    const wrong = await page({ reference, code: '"><script>alert(1)</script>' }, 'de')
    expect(wrong.status).toBe(404)
    expect(wrong.text).toContain('Dieser Beleg ist nicht echt.')
    expect(wrong.text).not.toContain('<script>')
  })
})

describe('a mail about moved money', () => {
  type Mail = {
    to: string
    text: string
    attachments: Array<{ fileName: string; type: string; content: string }>
  }
  const mailTo = ({ email }: Person, reference: string) =>
    vi.waitFor(async () => {
      const all = (await (await fetch(`${inject('stack').mail.httpUrl}/messages`)).json()) as Mail[]
      const mine = all.filter(mail => mail.to.includes(email) && mail.text.includes(reference))
      expect(mine).toHaveLength(1)
      return mine[0]!
    }, soon)
  const choose = async (person: Person, change: object) => {
    const { status, body } = await person.ask('PATCH', '/v1/notifications/preferences', change)
    expect(status).toBe(200)
    return body
  }

  test('has the receipt with it where the user prefers that: the same file as the gateway gives', async () => {
    expect((await bob.ask('GET', '/v1/notifications/preferences')).body.attachReceipts).toBe(false)
    expect((await choose(bob, { attachReceipts: true })).attachReceipts).toBe(true)
    // Another choice leaves it.
    const kinds = { money_received: { email: true }, money_sent: { email: true } }
    expect((await choose(bob, { kinds })).attachReceipts).toBe(true)
    await choose(alice, { kinds })
    const { id, reference } = await pay('7.25')
    const mail = await mailTo(bob, reference)
    expect(mail.text).toContain('The receipt is attached as a PDF.')
    expect(mail.attachments.map(({ fileName, type }) => [fileName, type])).toEqual([
      [`receipt-${reference}.pdf`, 'application/pdf'],
    ])
    const attached = Buffer.from(mail.attachments[0]!.content, 'base64')
    expect(attached.equals(await receiptOf(bob, id))).toBe(true)
    expect((await mailTo(alice, reference)).attachments).toEqual([])
    // The notifier stores neither names nor files.
    const rows =
      await sql`select to_jsonb(d)::text as row from notifier.deliveries d where user_id = ${bob.id}`
    expect(JSON.stringify(rows)).not.toMatch(/Alice|محمد|example\.com|%PDF/)
  })
})
