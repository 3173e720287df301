import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import type { FoundationFault } from '@pennywire/runtime/watch-foundation.ts'
import { callRegistry } from './call-registry.ts'
import type { RegistryAccess } from './codec.ts'

const WANTED = 'FULL_TRANSITIVE'

/**
 * Finds subjects that would accept an incompatible schema, one that cannot read older records or whose records older
 * readers cannot read: their compatibility is not FULL_TRANSITIVE (S1). A subject without its own setting has the
 * global one.
 */
export const createRegistryCheck =
  (registryUrl: string, access: RegistryAccess): (() => Promise<FoundationFault[]>) =>
  async () => {
    const levelOf = async (path: string): Promise<string | undefined> => {
      const { status, text } = await callRegistry(`${registryUrl}/config${path}`, access)
      if (status !== 200 && status !== 404) throw new Error(`the registry answers ${status}`)
      return status === 404
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
