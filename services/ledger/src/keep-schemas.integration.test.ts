// What the ids in the journal's bytes mean is kept, and another registry is refused.
import type { RecordName } from '@pennywire/contracts/schemas.ts'
import { connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { keepSchemas } from './keep-schemas.ts'
import { readSchemas } from './sql/schemas.ts'
import { createLedgerDatabase } from './sql/test-database.ts'

const { superuserUrl, registryUrl } = inject('stack')

let database: Awaited<ReturnType<typeof createLedgerDatabase>>
beforeAll(async () => {
  database = await createLedgerDatabase(superuserUrl)
})
afterAll(() => database.drop())

test('S1, G5: a registry that gives an id to another record is refused, a further version is kept beside the first', async () => {
  const sql = database.open()
  try {
    const { schemaIds } = await createCodec(connectRegistry(registryUrl))
    await keepSchemas(sql, { schemaIds })
    await keepSchemas(sql, { schemaIds })
    const kept = await readSchemas(sql)
    expect(new Map(kept.map(({ id, subject }) => [subject, id]))).toEqual(schemaIds)
    const [[first, id], [second, other]] = [...schemaIds] as [[RecordName, number], [RecordName, number]]
    const swapped = new Map(schemaIds).set(first, other).set(second, id)
    await expect(keepSchemas(sql, { schemaIds: swapped })).rejects.toThrow(
      `the registry gives id ${Math.min(id, other)} to`,
    )
    await keepSchemas(sql, { schemaIds: new Map(schemaIds).set(first, 1_000_000) })
    expect(await readSchemas(sql)).toHaveLength(kept.length + 1)
  } finally {
    await sql.end()
  }
})
