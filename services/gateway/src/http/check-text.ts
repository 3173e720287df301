import type { Context, MiddlewareHandler } from 'hono'
import { type BrokenRule, validationProblem } from '../problems/problem.ts'
import type { GatewayEnv } from './context.ts'
import { inexactJson, unstorable } from './exact-json.ts'

const JSON_TYPE = /^application\/json\s*(;|$)/i
const ENCODING = 'must be UTF-8, percent-encoded'

const isDecodable = (text: string): boolean => {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

/** The broken rules of path and query: parts that cannot be decoded, or that could not be stored. */
const brokenAddress = ({ req }: Context<GatewayEnv>, takesQuery: boolean): BrokenRule[] => {
  const { url } = req
  if (!url.includes('%')) return []
  const [path = '', search = ''] = url.split('?', 2)
  // A query that the route does not read is ignored, even if it cannot be decoded.
  const query = takesQuery ? search : ''
  const broken: BrokenRule[] = isDecodable(path) ? [] : [{ field: 'path', rule: ENCODING }]
  for (const pair of query.split('&')) {
    if (isDecodable(pair)) continue
    const name = pair.split('=', 1)[0]!
    broken.push({ field: isDecodable(name) ? decodeURIComponent(name) : 'query', rule: ENCODING })
  }
  if (broken.length > 0) return broken
  const texts = [
    ...Object.entries(req.param()).map(([name, value]) => ({ name, texts: [value] })),
    ...Object.entries(takesQuery ? req.queries() : {}).map(([name, values]) => ({
      name,
      texts: [name, ...values],
    })),
  ]
  return texts.flatMap(({ name, texts }) =>
    [...new Set(texts.map(unstorable))].flatMap(rule => (rule ? [{ field: name, rule }] : [])),
  )
}

const isWellFormed = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/**
 * Keeps a text exactly as sent, or refuses it with a 422 that names the field: in the path, the query and a JSON body.
 * So no handler receives text that Postgres, JSON or UTF-8 would change or refuse. `body` states whether the route
 * takes a body and whether it is optional: an optional JSON body without content counts as no body.
 */
export const checkText =
  ({
    body,
    query,
  }: {
    body: 'none' | 'optional' | 'required'
    query: boolean
  }): MiddlewareHandler<GatewayEnv> =>
  async (context, next) => {
    const broken = brokenAddress(context, query)
    if (body !== 'none' && JSON_TYPE.test(context.req.header('content-type') ?? '')) {
      const text = await context.req.text()
      // Hono stores a promise there, which its type omits.
      if (text === '' && body === 'optional')
        Object.assign(context.req.bodyCache, { text: Promise.resolve('{}') })
      // Malformed JSON is answered by the validation, with 400.
      else if (isWellFormed(text)) broken.push(...inexactJson(text))
    }
    if (broken.length > 0) throw validationProblem(broken)
    return next()
  }
