import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type ManagedProcess, runToEnd, startProcess } from '../managed-process.ts'
import { findFreePort } from '../ports.ts'
import { javaFlags } from './java.ts'
import { fetchArtifact } from './maven.ts'
import type { ServerContext } from './server-context.ts'

const serverProperties = (port: number, controllerPort: number) => `\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
# Relative to the working folder, which is this file's.
log.dirs=log
auto.create.topics.enable=false
# One node: the internal topics can have one replica only, and need few partitions.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# A lone consumer gets its partitions at once instead of after three seconds.
group.initial.rebalance.delay.ms=0
`

const loggingConfig = `\
<Configuration status="error">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d %p %m (%c)%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="warn"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="info"/>
  </Loggers>
</Configuration>
`

// Metadata request, version 4, correlation id 1, client "startup", for no topic. A broker lists itself only once
// its controller has let it in, and its port is open much earlier than that.
const metadataRequest = Buffer.from(
  '00000016 0003 0004 00000001 0007 73746172747570 00000000 00'.replaceAll(' ', ''),
  'hex',
)

const answersMetadata = (port: number) =>
  new Promise<boolean>((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 2_000 })
    let answer = new Uint8Array()
    socket.once('connect', () => socket.write(metadataRequest))
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('no answer to a metadata request')))
    socket.once('close', () => reject(new Error('the connection was closed')))
    socket.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk])
      if (answer.length < 16) return
      // Length, correlation id, throttle time (4 bytes each), then how many brokers there are.
      resolve(new DataView(answer.buffer, answer.byteOffset).getInt32(12) > 0)
      socket.destroy()
    })
  })

/** One Kafka node, broker and controller in one process; ready when it lists itself in a metadata answer. */
export const startKafka = async (context: ServerContext, port: number): Promise<ManagedProcess> => {
  const { dataDir, guard, java, logFile, report } = context
  const jars = await fetchArtifact('kafka', { ...context, logFile: logFile('maven') })
  report('Kafka: starting ...')
  const home = join(dataDir, 'kafka')
  mkdirSync(home, { recursive: true })
  writeFileSync(join(home, 'server.properties'), serverProperties(port, await findFreePort()))
  writeFileSync(join(home, 'log4j2.xml'), loggingConfig)
  const command = {
    name: 'Kafka',
    file: java,
    cwd: home,
    logFile: logFile('kafka'),
    order: context.order,
  }
  const classPath = ['-cp', join(jars, '*'), '-Dlog4j2.configurationFile=log4j2.xml']
  if (!existsSync(join(home, 'log', 'meta.properties')))
    await runToEnd(guard, {
      ...command,
      name: 'Kafka (formatting its storage)',
      args: [
        ...javaFlags(128),
        ...classPath,
        'kafka.tools.StorageTool',
        'format',
        `--cluster-id=${randomBytes(16).toString('base64url')}`,
        '--config=server.properties',
      ],
    })
  return startProcess(guard, {
    ...command,
    args: [...javaFlags(512), ...classPath, 'kafka.Kafka', 'server.properties'],
    isReady: () => answersMetadata(port),
    readyWithinMs: 90_000,
  })
}
