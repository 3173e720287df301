// Checks every answer that a test receives against the document, which must list its status and code for its route.

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
type Json = any
type Known = { method: string; path: RegExp; plain: boolean; responses: Json }

const documents = new Map<string, Promise<Known[]>>()

const readDocument = async (gatewayUrl: string): Promise<Known[]> => {
  const { paths } = (await (await fetch(`${gatewayUrl}/openapi.json`)).json()) as Json
  return Object.entries<Json>(paths).flatMap(([path, operations]) => {
    const pattern = path
      .split('/')
      .map(segment => (segment.startsWith('{') ? '[^/]+' : RegExp.escape(segment)))
      .join('/')
    return Object.entries<Json>(operations).map(([method, { responses }]) => ({
      method: method.toUpperCase(),
      path: new RegExp(`^${pattern}$`),
      plain: !path.includes('{'),
      responses,
    }))
  })
}

/** Codes allowed on every path: the router's codes for an unknown route or method, and internal errors. */
const ANYWHERE = new Set(['ROUTE_NOT_FOUND', 'METHOD_NOT_ALLOWED', 'INTERNAL_ERROR'])

/** Throws if the answer is missing from this gateway's document; ignores paths outside /v1. */
export const expectInDocument = async (
  gatewayUrl: string,
  method: string,
  path: string,
  answer: { status: number; body: Json },
): Promise<void> => {
  if (!path.startsWith('/v1/') || ANYWHERE.has(answer.body?.code)) return
  // The gateway may be killed at any moment of a test: then skip this answer, and refetch the document for the next.
  const known = await (
    documents.get(gatewayUrl) ?? documents.set(gatewayUrl, readDocument(gatewayUrl)).get(gatewayUrl)!
  ).catch(() => {
    documents.delete(gatewayUrl)
    return undefined
  })
  if (!known) return
  const [pathname = ''] = path.split('?')
  const matching = known.filter(operation => operation.method === method && operation.path.test(pathname))
  const operation = matching.find(({ plain }) => plain) ?? matching[0]
  if (!operation) throw new Error(`/openapi.json does not know ${method} ${pathname}`)
  const response = operation.responses[answer.status]
  if (!response) throw new Error(`/openapi.json does not know ${answer.status} of ${method} ${pathname}`)
  const problems = response.content?.['application/problem+json']?.examples
  const code = answer.body?.code
  if (problems && !(code in problems))
    throw new Error(`/openapi.json does not know ${answer.status} ${code} of ${method} ${pathname}`)
}
