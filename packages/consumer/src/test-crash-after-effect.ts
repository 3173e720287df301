// For tests: a consumer that is killed when it has done its n-th effect and not committed it yet.
import postgres from 'postgres'
import { fromRegistry, startConsumer } from './index.ts'

const { databaseUrl, registryUrl, killAt, ...options } = JSON.parse(process.argv[2]!) as {
  databaseUrl: string
  registryUrl: string
  killAt: number
  kafka: Parameters<typeof startConsumer>[0]['kafka']
  groupId: string
  topics: string[]
  schema: string
  sessionMs: number
}
let effects = 0
await startConsumer({
  ...options,
  schemas: fromRegistry(registryUrl),
  sql: postgres(databaseUrl),
  handle: async ({ id }, tx) => {
    await tx`insert into effects (id) values (${id})`
    if (++effects === killAt) process.kill(process.pid, 'SIGKILL')
  },
})
