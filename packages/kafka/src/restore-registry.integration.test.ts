// A registry that lost its schemas gets them under the ids that records carry: with and without Confluent's import mode.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, expect, test } from 'vitest'
import { CannotRestore, restoreRegistry } from './restore-registry.ts'

const stops: Array<() => void> = []
afterEach(() => {
  for (const stop of stops.splice(0)) stop()
})

/** A registry in memory that counts its ids, as Apicurio does, or takes them in import mode, as Confluent's does. */
const startRegistry = async ({ imports }: { imports: boolean }) => {
  const schemas = new Map<number, { subject: string; schema: string }>()
  const importing = new Set<string>()
  const compatibility = new Map<string, string>()
  let next = 1
  const answer = (
    method: string,
    path: string,
    body: { schema: string; id?: number; mode?: string },
  ): object | undefined => {
    const [, kind = '', name = '', last = ''] = path.split('?')[0]!.split('/')
    if (kind === 'subjects' && name === '')
      return [...new Set([...schemas.values()].map(({ subject }) => subject))]
    if (kind === 'schemas') return schemas.get(Number(last))
    if (kind === 'mode' && imports) {
      if (body.mode === 'IMPORT') importing.add(name)
      else importing.delete(name)
      return { mode: body.mode }
    }
    if (kind === 'config') {
      compatibility.set(name, (body as { compatibility?: string }).compatibility ?? '')
      return {}
    }
    if (method !== 'POST') return undefined
    const id = importing.has(name) ? body.id! : next++
    schemas.set(id, { subject: name, schema: body.schema })
    return { id }
  }
  const server = createServer(async (request, response) => {
    const body = await text(request)
    const said = answer(request.method!, request.url!, body === '' ? {} : JSON.parse(body))
    response.writeHead(said ? 200 : 404).end(JSON.stringify(said ?? { error_code: 404 }))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  stops.push(() => server.close())
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    schemas,
    compatibility,
    importing,
  }
}

const schemaOf = (id: number) => ({
  id,
  subject: `pennywire.Event${id}`,
  schema: JSON.stringify({ type: 'record', name: `Event${id}`, fields: [] }),
})
const WANTED = [5, 2, 9].map(schemaOf)

test.each([{ imports: true }, { imports: false }])(
  'S1: each schema has its id again, with import mode: $imports',
  async ({ imports }) => {
    const registry = await startRegistry({ imports })
    const restored = await restoreRegistry({ url: registry.url, access: {}, schemas: WANTED })
    // Ids 1, 3, 4 and 6 to 8 are of schemas that nobody knows any more.
    expect(restored).toEqual({ present: 0, restored: 3, filled: imports ? 0 : 6 })
    for (const { id, subject, schema } of WANTED)
      expect(registry.schemas.get(id)).toEqual({ subject, schema })
    for (const { subject } of WANTED) expect(registry.compatibility.get(subject)).toBe('FULL_TRANSITIVE')
    expect(registry.importing.size).toBe(0)
    const again = await restoreRegistry({ url: registry.url, access: {}, schemas: WANTED })
    expect(again).toEqual({ present: 3, restored: 0, filled: 0 })
  },
)

test('S1: a registry that went on since, or that has another schema under an id, is left as it is', async () => {
  const registry = await startRegistry({ imports: false })
  await restoreRegistry({ url: registry.url, access: {}, schemas: [schemaOf(1), schemaOf(2)] })
  const restore = (id: number, name = id) =>
    restoreRegistry({ url: registry.url, access: {}, schemas: [{ ...schemaOf(name), id }] })
  await expect(restore(2, 7)).rejects.toThrow(
    'the registry has another schema under id 2 than pennywire.Event7',
  )
  registry.schemas.delete(1)
  await expect(restore(1)).rejects.toThrow(CannotRestore)
  await expect(restore(1)).rejects.toThrow('begin with an empty registry')
  expect(registry.schemas.get(2)?.subject).toBe('pennywire.Event2')
})
