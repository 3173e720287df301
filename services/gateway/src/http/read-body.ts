import type { Context, MiddlewareHandler } from 'hono'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { GatewayEnv } from './context.ts'

export const BODY_LIMIT_BYTES = 64 * 1024
/** No honest body has more: validating thousands by a schema blocks the event loop for tens of milliseconds. */
const MAX_VALUES = 1_000
/** How much of a too large body is drained before the answer, so that its sender reads the answer. */
const DRAIN_BYTES = 16 * 1024 * 1024
const DRAIN_MS = 2_000

const JSON_TYPE = 'application/json'
const JSON_MEDIA = /^application\/json\s*(?:;.*)?$/i
const CHARSET = /;\s*charset\s*=\s*"?([^\s;"]*)/i

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c]

/** Counts the members and items of a JSON text by its commas, before it is parsed. */
const hasTooManyValues = (json: string): boolean => {
  if (json.length < MAX_VALUES) return false
  let values = 1
  let quoted = false
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at)
    if (code === QUOTE) quoted = !quoted
    else if (quoted && code === BACKSLASH) at++
    else if (!quoted && code === COMMA && ++values > MAX_VALUES) return true
  }
  return false
}

type BodyReader = { read: () => Promise<{ done: boolean; value?: Uint8Array }> }

/** Drains the rest of the body, up to a bound, and refuses. The connection closes with the answer. */
const refuseTooLarge = async (reader: BodyReader): Promise<never> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>(resolve => {
    timer = setTimeout(() => resolve(undefined), DRAIN_MS)
  })
  for (let bytes = 0; bytes < DRAIN_BYTES; ) {
    const piece = await Promise.race([reader.read().catch(() => undefined), late])
    if (!piece || piece.done) break
    bytes += piece.value!.length
  }
  clearTimeout(timer)
  throw new ProblemError(
    'PAYLOAD_TOO_LARGE',
    `body: must be at most ${BODY_LIMIT_BYTES} bytes`,
    {},
    { connection: 'close' },
  )
}

/** The body's bytes; a body without a declared length is counted as it arrives. */
const readBytes = async ({ req }: Context<GatewayEnv>, length: number | undefined): Promise<Uint8Array> => {
  // Node enforces the declared length. Reading the stream would build the whole Request, which is slow.
  if (length !== undefined && length <= BODY_LIMIT_BYTES) return new Uint8Array(await req.raw.arrayBuffer())
  const pieces: Uint8Array[] = []
  let bytes = 0
  const reader: BodyReader | undefined = req.raw.body?.getReader()
  for (;;) {
    const piece = await reader?.read()
    if (!reader || !piece || piece.done) return Buffer.concat(pieces)
    bytes += piece.value!.length
    if (bytes > BODY_LIMIT_BYTES) return refuseTooLarge(reader)
    pieces.push(piece.value!)
  }
}

/** Checks the encoding and charset that the headers declare; 415 if no route can read them. */
const checkForm = ({ req }: Context<GatewayEnv>): void => {
  const unsupported = (detail: string) => new ProblemError('UNSUPPORTED_MEDIA_TYPE', detail)
  const encoding = req.header('content-encoding')
  if (encoding !== undefined && encoding.trim().toLowerCase() !== 'identity')
    throw unsupported(
      `Content-Encoding: must not be sent, is "${encoding.slice(0, 40)}"; send the body as it is`,
    )
  const type = req.header('content-type')
  if (type === undefined || type === JSON_TYPE) return
  const charset = CHARSET.exec(type)?.[1]
  if (charset !== undefined && !/^utf-?8$/i.test(charset))
    throw unsupported(`Content-Type: charset must be utf-8, is "${charset.slice(0, 40)}"`)
  // Other spellings of the same type (white space, parameters) are equal to the routes.
  if (JSON_MEDIA.test(type.trim())) req.raw.headers.set('content-type', JSON_TYPE)
}

const decoder = new TextDecoder('utf-8', { fatal: true })
const decode = (bytes: Uint8Array): string => {
  try {
    return decoder.decode(bytes)
  } catch {
    throw new ProblemError('MALFORMED_JSON', 'body: must be UTF-8')
  }
}

/**
 * Reads each body once, before the routes: at most 64 KiB (413), uncompressed and UTF-8 by its headers (415) and by its
 * bytes (400), and at most 1,000 values (422). Routes read it from `bodyCache` as text or JSON.
 */
export const readBody = (): MiddlewareHandler<GatewayEnv> => async (context, next) => {
  const { req } = context
  if (req.method === 'GET' || req.method === 'HEAD') return next()
  const declared = req.header('content-length')
  const chunked = req.header('transfer-encoding') !== undefined
  // A request that did not come over a network, as in tests, declares no length.
  if (declared === '0' || (declared === undefined && !chunked && req.raw.body === null)) return next()
  checkForm(context)
  const bytes = await readBytes(context, chunked || declared === undefined ? undefined : Number(declared))
  const text = decode(bytes)
  if (hasTooManyValues(text))
    throw validationProblem([{ field: 'body', rule: `must have at most ${MAX_VALUES} values` }])
  // hono awaits the cached value, although its type is not a promise.
  req.bodyCache.text = Promise.resolve(text) as never
  return next()
}
