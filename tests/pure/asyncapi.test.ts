// docs/asyncapi.json is the document of the code, valid for AsyncAPI's own parser, and right: its Avro payloads are the
// registered schemas, its examples are records, and what it states of topics is what the brokers are set to.
import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'
import { asyncApiDocument, type Message, OPEN_TOPICS } from '@pennywire/contracts/asyncapi.ts'
import { ASYNCAPI_FILE } from '@pennywire/contracts/describe-contracts.ts'
import { AVRO_LOGICAL_TYPES, canonicalSchema, RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { TOPICS } from '@pennywire/contracts/topics.ts'
import { parseWalletCode } from '@pennywire/contracts/wallet-code.ts'
import { KAFKA_ACCESS } from '@pennywire/kafka/access.ts'
import { envelope } from '@pennywire/kafka/record.ts'
import avsc from 'avsc'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

const AVRO = 'application/vnd.apache.avro+json;version=1.9.0'
const document = asyncApiDocument()
const records = Object.entries(document.components.messages).filter(
  ([, message]) => message.payload.schemaFormat === AVRO,
)

test('docs/asyncapi.json is the document of the code: npm run docs', () => {
  expect(JSON.parse(readFileSync(ASYNCAPI_FILE, 'utf8'))).toEqual(document)
})

/** AsyncAPI's parser with Avro by the library that our services read with: its own add-on brings an older one. */
const parse = async (text: string) => {
  const parser = new Parser()
  const check = (schema: unknown) => {
    try {
      avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })
      return []
    } catch (error) {
      return [{ message: (error as Error).message }]
    }
  }
  parser.registerSchemaParser({
    getMimeTypes: () => [AVRO],
    validate: ({ data }) => check(data),
    parse: ({ data }) => data as never,
  })
  const { document, diagnostics } = await parser.parse(text)
  // 0: error, 1: warning. Below are hints, such as that a later version of AsyncAPI is there.
  const faults = diagnostics.filter(({ severity }) => severity < 2)
  return { parsed: document, faults: faults.map(({ message, path }) => `${path.join('.')}: ${message}`) }
}

test('AsyncAPI’s own parser takes it, without an error or a warning', async () => {
  const { parsed, faults } = await parse(readFileSync(ASYNCAPI_FILE, 'utf8'))
  expect(faults).toEqual([])
  expect(parsed!.version()).toBe('3.0.0')
  expect(
    parsed!
      .channels()
      .all()
      .map(channel => channel.address())
      .sort(),
  ).toEqual(Object.keys(TOPICS).sort())
  expect(parsed!.components().messages().all().length).toBe(RECORD_NAMES.length + 2)
})

test('the parser would find a payload that is no Avro, a link to nothing and a missing part', async () => {
  const brokenBy = async (change: (copy: ReturnType<typeof asyncApiDocument>) => void) => {
    const copy = structuredClone(document)
    change(copy)
    return (await parse(JSON.stringify(copy))).faults
  }
  expect(
    await brokenBy(({ components }) => {
      components.messages.TransferCompleted!.payload.schema = {
        type: 'record',
        name: 'X',
        fields: [{ name: 'a' }],
      }
    }),
  ).not.toEqual([])
  expect(
    await brokenBy(({ channels }) => {
      channels.ledgerEvents!.messages.Gone = { $ref: '#/components/messages/Gone' }
    }),
  ).not.toEqual([])
  expect(
    await brokenBy(copy => {
      delete (copy.info as { version?: string }).version
    }),
  ).not.toEqual([])
})

test('each record is a message of one channel, with its schema as registered', () => {
  expect(records.map(([, { name }]) => name)).toEqual(RECORD_NAMES)
  for (const [name, message] of records) {
    expect(message.payload.schema).toEqual(
      JSON.parse(canonicalSchema(message.name as (typeof RECORD_NAMES)[number])),
    )
    const channels = Object.values(document.channels).filter(({ messages }) => name in messages)
    expect(channels.length, name).toBe(1)
  }
})

test('what other teams may read is what the brokers let them', () => {
  expect(OPEN_TOPICS).toEqual(KAFKA_ACCESS.downstream.reads)
})

/** The JSON schema of a message's headers, its references resolved. */
const headersOf = (message: Message) =>
  z.fromJSONSchema(
    JSON.parse(
      JSON.stringify({ ...(message.headers as object), $defs: document.components.schemas }).replaceAll(
        '#/components/schemas/',
        '#/$defs/',
      ),
    ),
  )

describe.each(records)('%s', (name, message) => {
  const [example] = message.examples

  test('its example is a record in Avro’s JSON encoding, to the last field', () => {
    const type = avsc.Type.forSchema(message.payload.schema as unknown as avsc.Schema, {
      logicalTypes: AVRO_LOGICAL_TYPES,
    })
    const value = type.fromString(JSON.stringify(example!.payload))
    expect(type.fromBuffer(type.toBuffer(value))).toEqual(value)
    expect(JSON.parse(type.toString(value))).toEqual(example!.payload)
    const { fields } = message.payload.schema as { fields: { name: string }[] }
    expect(Object.keys(example!.payload as object)).toEqual(fields.map(field => field.name))
  })

  test('its example’s headers are what its schema of headers asks for', () => {
    expect(headersOf(message).safeParse(example!.headers).error?.issues ?? []).toEqual([])
    expect(headersOf(message).safeParse({ ...example!.headers, ce_type: 'another' }).success).toBe(false)
    const common = envelope({
      ...{ id: '', type: name, source: 'ledger', time: 0, subject: '', traceparent: '' },
    })
    expect(Object.keys(example!.headers)).toEqual(expect.arrayContaining(Object.keys(common)))
  })
})

test('the examples of entries are a movement: two sides that sum to zero, of the wallets that it names', () => {
  type Example = {
    fromWalletId: { string: string }
    toWalletId: { string: string }
    amountMinor: number
    entries: { walletId: string; amountMinor: number; balanceAfterMinor: number; sequence: number }[]
  }
  for (const name of ['TransferCompleted', 'TransferReversed']) {
    const { entries, ...transfer } = document.components.messages[name]!.examples[0]!
      .payload as unknown as Example
    expect(entries.map(({ walletId }) => walletId)).toEqual([
      transfer.fromWalletId.string,
      transfer.toWalletId.string,
    ])
    expect(entries.map(({ amountMinor }) => amountMinor)).toEqual([
      -transfer.amountMinor,
      transfer.amountMinor,
    ])
  }
  const opened = document.components.messages.WalletOpened!.examples[0]!.payload as { code: string }
  expect(parseWalletCode(opened.code)).toBe(opened.code)
})
