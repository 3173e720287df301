import type { System } from '@pennywire/stack/system.ts'
import { type Person, post } from './people.ts'

/** Ids of existing objects that one person can request. */
export type Known = {
  walletId: string
  /** An empty wallet of the same person, to be frozen and closed. */
  spareWalletId: string
  otherWalletId: string
  otherWalletCode: string
  transferId: string
  reference: string
  key: string
  /** A hold that the person may capture. */
  holdId: string
  /** The transfer, hold and wallet of two other people, for staff routes. */
  strangersTransferId: string
  strangersHoldId: string
  strangersSpareId: string
}

/** Routes that may end the session or lock the PIN. */
export const ENDS_SESSIONS = [
  '/v1/auth/logout',
  '/v1/auth/logout-all',
  '/v1/sessions/{id}',
  '/v1/pin',
  '/v1/pin/verify',
  '/v1/pin/change',
  '/v1/pin/reset',
  '/v1/api-keys',
  '/v1/api-keys/{id}/rotate',
  '/v1/auth/change-password',
  '/v1/users/me/deactivate',
  // Of a person whom the other requests need.
  '/v1/admin/users/{id}/erasure',
]

/** Routes whose answers do not end by themselves; tests/streams.test.ts calls them. */
export const ENDLESS = ['/v1/notifications/stream', '/v1/wallets/{id}/entries/stream']

/** Creates the transfers and holds between the three people, over the API. */
export const makeKnown = async (
  system: System,
  person: Person,
  other: Person,
  third: Person,
): Promise<Known> => {
  const key = `known-${person.userId}`
  const sum = { amount: '12.50', currency: 'USD', pin: '482915' }
  const transfer = await post(system, person.token, 'transfers', { toWalletId: other.walletId, ...sum }, key)
  const hold = await post(system, other.token, 'holds', { toWalletId: person.walletId, ...sum })
  const theirs = { toWalletId: other.walletId, ...sum }
  const strangersTransfer = await post(system, third.token, 'transfers', theirs)
  const strangersHold = await post(system, third.token, 'holds', theirs)
  return {
    strangersTransferId: strangersTransfer.id,
    strangersHoldId: strangersHold.id,
    strangersSpareId: third.spareWalletId,
    walletId: person.walletId,
    spareWalletId: person.spareWalletId,
    otherWalletId: other.walletId,
    otherWalletCode: transfer.to.walletCode,
    transferId: transfer.id,
    reference: transfer.reference,
    key,
    holdId: hold.id,
  }
}

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
type Json = any

/** The example of each path parameter, by the first pattern that matches the path. */
const PATH_EXAMPLES: Array<[path: RegExp, param: string, known: keyof Known]> = [
  [/^\/v1\/wallets\/\{id\}(\/freeze|\/unfreeze)$/, 'id', 'spareWalletId'],
  [/^\/v1\/wallets\//, 'id', 'walletId'],
  [/^\/v1\/admin\/wallets\/\{id\}(\/freeze|\/unfreeze)$/, 'id', 'strangersSpareId'],
  [/^\/v1\/admin\/wallets\//, 'id', 'otherWalletId'],
  [/^\/v1\/admin\/transfers\//, 'id', 'strangersTransferId'],
  [/^\/v1\/admin\/holds\//, 'id', 'strangersHoldId'],
  [/^\/v1\/transfers\/\{id\}/, 'id', 'transferId'],
  [/^\/v1\/holds\//, 'id', 'holdId'],
  [/by-reference/, 'reference', 'reference'],
  [/by-idempotency-key/, 'key', 'key'],
  [/^\/v1\/recipients\//, 'walletCode', 'otherWalletCode'],
]

const FIELD_EXAMPLES: Record<string, keyof Known> = {
  walletId: 'walletId',
  fromWalletId: 'walletId',
  toWalletCode: 'otherWalletCode',
  toWalletId: 'otherWalletId',
}

const putKnown = (schema: Json, known: Known): void => {
  for (const [name, field] of Object.entries<Json>(schema?.properties ?? {})) {
    const value = FIELD_EXAMPLES[name]
    if (value) field.example = known[value]
  }
}

/** Restricts a body to affordable amounts, existing currencies and parties, and to `toWalletCode` for the recipient. */
const narrowBody = (schema: Json): void => {
  const { properties = {} } = schema
  for (const [name, field] of Object.entries<Json>(properties)) {
    if (name in FIELD_EXAMPLES) properties[name] = { type: 'string', enum: [field.example] }
    if (name === 'amount') properties[name] = { type: 'string', pattern: '^[0-4][.][0-9]{2}$' }
    if (name === 'currency') properties[name] = { type: 'string', enum: ['USD'] }
  }
  if (!properties.toWalletCode) return
  delete properties.toWalletId
  schema.required = [...(schema.required ?? []), 'toWalletCode']
}

/**
 * The document with existing objects as examples, so that generated requests get past the first look-up. The field
 * `pin` is removed, because three wrong guesses would lock it; the step-up token replaces it.
 * `narrow` restricts values to these examples: generated requests then mostly succeed, otherwise mostly are refused.
 */
export const documentFor = (document: Json, known: Known, narrow: boolean): Json => {
  const copy = structuredClone(document)
  for (const [path, operations] of Object.entries<Json>(copy.paths)) {
    for (const operation of Object.values<Json>(operations)) {
      for (const parameter of operation.parameters ?? []) {
        if (parameter.name === 'idempotency-key') {
          parameter.example = `${known.key}-${operation.summary.replaceAll(/\W/g, '')}`
          parameter.schema.example = parameter.example
          if (narrow) parameter.schema = { type: 'string', pattern: '^[a-z0-9]{12}$' }
        }
        const [, , value] =
          PATH_EXAMPLES.find(([pattern, param]) => param === parameter.name && pattern.test(path)) ?? []
        const inQuery = parameter.in === 'query' ? FIELD_EXAMPLES[parameter.name] : undefined
        const found = parameter.in === 'path' ? value : inQuery
        if (!found) continue
        parameter.example = known[found]
        if (parameter.schema) parameter.schema.example = known[found]
        if (narrow) parameter.schema = { type: 'string', enum: [known[found]] }
      }
      const media = operation.requestBody?.content?.['application/json']
      if (!media) continue
      putKnown(media.schema, known)
      if (narrow) narrowBody(media.schema)
      if (!path.startsWith('/v1/pin')) delete media.schema.properties?.pin
      for (const example of [media.example, media.schema.example]) {
        if (!example) continue
        for (const [name, value] of Object.entries(FIELD_EXAMPLES)) {
          if (name in example) example[name] = known[value]
        }
        if (!path.startsWith('/v1/pin')) delete example.pin
      }
    }
  }
  return copy
}

/** All operations, in the form "POST /v1/transfers". */
export const operationsOf = (document: Json): string[] =>
  Object.entries<Json>(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map(method => `${method.toUpperCase()} ${path}`),
  )
