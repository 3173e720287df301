import type { System } from '@pennywire/stack/system.ts'
import { type Person, post } from './people.ts'

/** Things that are really there, for one person to ask about. */
export type Known = {
  walletId: string
  /** An empty one of the same person, to be frozen and closed. */
  spareWalletId: string
  otherWalletId: string
  otherWalletCode: string
  transferId: string
  reference: string
  key: string
  /** One that the person may capture. */
  holdId: string
  /** Of two others, for staff. */
  strangersTransferId: string
  strangersHoldId: string
  strangersSpareId: string
}

/** Routes after which the session, or the PIN, is of no use. */
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
]

/** A spare wallet, a transfer to somebody else and a hold by them: made by the routes themselves. */
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

/** What a path parameter's example becomes, by the first pattern that its path meets. */
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

/** Amounts and currencies that the wallets have, and parties that are there; the recipient by one of its two names. */
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
 * The document with examples that are really there, so that what is asked gets past the first look-up; without the
 * field `pin`, which the step-up token stands for: three wrong guesses would lock it.
 * `narrow` leaves little else to ask: what is drawn is then mostly done, where otherwise it is mostly refused.
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

/** "POST /v1/transfers" of each operation. */
export const operationsOf = (document: Json): string[] =>
  Object.entries<Json>(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map(method => `${method.toUpperCase()} ${path}`),
  )
