import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { RegistryAccess } from './codec.ts'

const ANSWER_MS = 5_000
const CONTENT_TYPE = 'application/vnd.schemaregistry.v1+json'

/** One request to the registry's Confluent API; resolves with any status. */
export const callRegistry = (
  address: string,
  { username, password = '', ca }: RegistryAccess,
  { method = 'GET', body }: { method?: string; body?: object } = {},
): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const url = new URL(address)
    const request = url.protocol === 'https:' ? requestHttps : requestHttp
    const asking = request(
      url,
      {
        method,
        timeout: ANSWER_MS,
        ...(body === undefined ? {} : { headers: { 'content-type': CONTENT_TYPE } }),
        ...(ca === undefined ? {} : { ca }),
        ...(username === undefined ? {} : { auth: `${username}:${password}` }),
      },
      answer => {
        let text = ''
        answer.setEncoding('utf8')
        answer.on('data', piece => {
          text += piece
        })
        answer.on('error', reject)
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
      },
    )
    asking.on('timeout', () =>
      asking.destroy(new Error(`the registry does not answer within ${ANSWER_MS} ms`)),
    )
    asking.on('error', reject)
    asking.end(body === undefined ? undefined : JSON.stringify(body))
  })
