import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type ManagedProcess, startProcess } from '../managed-process.ts'
import { asNobody, ownFolder } from './as-nobody.ts'
import { javaFlags } from './java.ts'
import { fetchArtifact } from './maven.ts'
import type { ServerContext } from './server-context.ts'

/** The path of Apicurio's API that is compatible with the Confluent registry. */
export const REGISTRY_PATH = '/apis/ccompat/v7'

/** Apicurio Registry with its schemas in a file, so that ids stay the same; ready when it lists subjects. */
export const startRegistry = async (context: ServerContext, port: number): Promise<ManagedProcess> => {
  const { dataDir, guard, java, logFile, report } = context
  const home = await fetchArtifact('registry', { ...context, logFile: logFile('maven') })
  report('Schema registry: starting ...')
  const jar = readdirSync(home).find(file => file.endsWith('-runner.jar'))
  if (!jar) throw new Error(`Schema registry: ${home} holds no runner; remove that folder and start again.`)
  const data = ownFolder(join(dataDir, 'registry'))
  return startProcess(guard, {
    name: 'Schema registry',
    ...asNobody(java, [...javaFlags(256), '-jar', join(home, jar)]),
    cwd: data,
    env: {
      ...process.env,
      QUARKUS_HTTP_HOST: '127.0.0.1',
      QUARKUS_HTTP_PORT: String(port),
      QUARKUS_LOG_LEVEL: 'WARN',
      // Written synchronously: records contain schema ids, and an id lost in a crash could be given to another schema.
      QUARKUS_DATASOURCE_JDBC_URL: 'jdbc:h2:file:./schemas;WRITE_DELAY=0',
    },
    logFile: logFile('registry'),
    order: context.order,
    isReady: async () =>
      (
        await fetch(`http://127.0.0.1:${port}${REGISTRY_PATH}/subjects`, {
          signal: AbortSignal.timeout(5_000),
        })
      ).ok,
    // Also where its data was lost while it was down.
    beforeStart: async () => void ownFolder(data),
    readyWithinMs: 120_000,
  })
}
