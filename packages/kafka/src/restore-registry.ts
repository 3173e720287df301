import { isDeepStrictEqual } from 'node:util'
import { callRegistry } from './call-registry.ts'
import type { RegistryAccess } from './codec.ts'

/** A schema with the id that records carry. */
export type WantedSchema = { id: number; subject: string; schema: string }

export type Restored = {
  /** Schemas that the registry had under their ids. */
  present: number
  restored: number
  /** Ids of schemas that are not known any more, taken so that they mean nothing else. */
  filled: number
}

/** The registry cannot have these schemas under these ids. */
export class CannotRestore extends Error {
  override name = 'CannotRestore'
}

const FILLED_SUBJECT = 'pennywire.restore.FilledIds'
const COMPATIBILITY = 'FULL_TRANSITIVE'
/** A longer gap in the ids is another registry's numbering. */
const MAX_FILLED = 100_000

/**
 * Gives a registry that lost its schemas each of them under its old id again. A registry with Confluent's import mode
 * takes the id; any other counts, so the schemas are registered in the order of their ids, from an empty registry on, and
 * ids that no wanted schema has are taken by a filler. Throws CannotRestore before a schema would have another id.
 */
export const restoreRegistry = async (options: {
  url: string
  access: RegistryAccess
  schemas: WantedSchema[]
  onRestored?: () => void
}): Promise<Restored> => {
  const { url, access, schemas, onRestored = () => {} } = options
  const result: Restored = { present: 0, restored: 0, filled: 0 }

  const call = async (method: string, path: string, body?: object, alsoFine: number[] = []) => {
    const answer = await callRegistry(`${url}${path}`, access, { method, ...(body ? { body } : {}) })
    if (answer.status !== 200 && !alsoFine.includes(answer.status))
      throw new Error(`${method} ${path}: the registry answers ${answer.status} ${answer.text}`)
    return { status: answer.status, body: answer.status === 200 ? JSON.parse(answer.text) : undefined }
  }
  const versionsOf = (subject: string) => `/subjects/${encodeURIComponent(subject)}/versions`
  const register = async (subject: string, schema: string): Promise<number> =>
    (await call('POST', versionsOf(subject), { schema })).body.id

  const isThere = async ({ id, subject, schema }: WantedSchema): Promise<boolean> => {
    const { status, body } = await call('GET', `/schemas/ids/${id}`, undefined, [404])
    if (status === 404) return false
    if (isDeepStrictEqual(JSON.parse(body.schema), JSON.parse(schema))) return true
    throw new CannotRestore(`the registry has another schema under id ${id} than ${subject}`)
  }

  const missing: WantedSchema[] = []
  for (const one of schemas) {
    if (await isThere(one)) result.present++
    else missing.push(one)
  }
  if (missing.length === 0) return result

  /** Registers with the id, where the registry has the import mode; false where it has not. */
  const importOne = async ({ id, subject, schema }: WantedSchema): Promise<boolean> => {
    const mode = `/mode/${encodeURIComponent(subject)}`
    const { status } = await call('PUT', `${mode}?force=true`, { mode: 'IMPORT' }, [404, 405, 422])
    if (status !== 200) return false
    await call('POST', versionsOf(subject), { schema, id })
    await call('PUT', mode, { mode: 'READWRITE' })
    return true
  }

  const subjects = (await call('GET', '/subjects')).body as string[]
  /** The id that the registry gives next; known from its last answer. */
  let next = subjects.length === 0 ? 1 : undefined
  const fill = async () => {
    if (result.filled >= MAX_FILLED)
      throw new CannotRestore(`more than ${MAX_FILLED} ids in a row are unknown`)
    const filler = {
      type: 'record',
      name: `Filler_${Date.now()}_${result.filled}`,
      namespace: 'pennywire.restore',
      fields: [],
    }
    const id = await register(FILLED_SUBJECT, JSON.stringify(filler))
    result.filled++
    next = id + 1
  }
  const refuse = (wanted: WantedSchema, given: number | undefined): never => {
    throw new CannotRestore(
      `id ${wanted.id} of ${wanted.subject} is behind the registry, which is at ${given}: begin with an empty registry, before the set-up registers anything`,
    )
  }

  await call('PUT', `/config/${encodeURIComponent(FILLED_SUBJECT)}`, { compatibility: 'NONE' }, [404])
  for (const wanted of missing.toSorted((a, b) => a.id - b.id)) {
    if (!(await importOne(wanted))) {
      if (next === undefined) await fill()
      if (next! > wanted.id) refuse(wanted, next)
      while (next! < wanted.id) await fill()
      const id = await register(wanted.subject, wanted.schema)
      if (id !== wanted.id) refuse(wanted, id)
      next = id + 1
    }
    await call('PUT', `/config/${encodeURIComponent(wanted.subject)}`, { compatibility: COMPATIBILITY })
    result.restored++
    onRestored()
  }
  return result
}
