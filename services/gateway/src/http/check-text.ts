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

/** What in the path and the query is no text, or none that could be stored. */
const brokenAddress = ({ req }: Context<GatewayEnv>, takesQuery: boolean): BrokenRule[] => {
  const { url } = req
  if (!url.includes('%')) return []
  const [path = '', search = ''] = url.split('?', 2)
  // A query that nobody reads is passed over, as it is where it is text.
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
 * Keeps a text as it was sent or refuses it with 422 that names the field: in the path, the query and a JSON body. So
 * no handler gets what Postgres, JSON or UTF-8 would change or refuse. `body`: whether the route takes one, and whether
 * it may be left out; then a JSON type without content is the same as no body.
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
      // Hono keeps a promise there, which its type does not say.
      if (text === '' && body === 'optional')
        Object.assign(context.req.bodyCache, { text: Promise.resolve('{}') })
      // What is malformed the validation answers, with 400.
      else if (isWellFormed(text)) broken.push(...inexactJson(text))
    }
    if (broken.length > 0) throw validationProblem(broken)
    return next()
  }
