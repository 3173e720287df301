import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import type { FoundationFault } from '@pennywire/runtime/watch-foundation.ts'
import type { RegistryAccess } from './codec.ts'

const ANSWER_MS = 5_000
const WANTED = 'FULL_TRANSITIVE'

/** A GET of the registry's Confluent API; undefined on 404. */
const get = (url: URL, { username, password = '', ca }: RegistryAccess): Promise<string | undefined> =>
  new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? requestHttps : requestHttp
    const asking = request(
      url,
      {
        timeout: ANSWER_MS,
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
        answer.on('end', () => {
          if (answer.statusCode === 200) resolve(text)
          else if (answer.statusCode === 404) resolve(undefined)
          else reject(new Error(`the registry answers ${answer.statusCode}`))
        })
      },
    )
    asking.on('timeout', () =>
      asking.destroy(new Error(`the registry does not answer within ${ANSWER_MS} ms`)),
    )
    asking.on('error', reject)
    asking.end()
  })

/**
 * Finds subjects that would accept an incompatible schema, one that cannot read older records or whose records older
 * readers cannot read: their compatibility is not FULL_TRANSITIVE (S1). A subject without its own setting has the
 * global one.
 */
export const createRegistryCheck =
  (registryUrl: string, access: RegistryAccess): (() => Promise<FoundationFault[]>) =>
  async () => {
    const levelOf = async (path: string): Promise<string | undefined> => {
      const text = await get(new URL(`${registryUrl}/config${path}`), access)
      return text === undefined
        ? undefined
        : ((JSON.parse(text) as { compatibilityLevel?: string }).compatibilityLevel ?? 'NONE')
    }
    const global = (await levelOf('')) ?? 'NONE'
    const faults: FoundationFault[] = []
    // Sequential, to keep the load on the registry low.
    for (const name of RECORD_NAMES) {
      const found = (await levelOf(`/${encodeURIComponent(name)}`)) ?? global
      if (found !== WANTED) {
        faults.push({ of: name, setting: 'compatibility', found, wanted: WANTED, losesMoney: false })
      }
    }
    return faults
  }
