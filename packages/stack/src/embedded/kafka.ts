import { randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type ManagedProcess, runToEnd, startProcess } from '../managed-process.ts'
import { findFreePort } from '../ports.ts'
import { KAFKA_ADMIN, loadKafkaPasswords } from '../server-passwords.ts'
import { asNobody, giveToServer, ownFolder } from './as-nobody.ts'
import { javaFlags } from './java.ts'
import { fetchArtifact } from './maven.ts'
import type { ServerContext } from './server-context.ts'

/** The users that may sign in, in JAAS format; the broker's own user stands first. Passwords are hexadecimal. */
const jaas = (passwords: Map<string, string>) =>
  `org.apache.kafka.common.security.plain.PlainLoginModule required username="${KAFKA_ADMIN}" password="${passwords.get(KAFKA_ADMIN)}" ${[
    ...passwords,
  ]
    .map(([user, password]) => `user_${user}="${password}"`)
    .join(' ')};`

const serverProperties = (port: number, controllerPort: number, passwords: Map<string, string>) => `\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=CLIENTS://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=CLIENTS://127.0.0.1:${port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
# All of it is on loopback; everybody says who they are, the broker to its controller too.
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config=${jaas(passwords)}
listener.name.controller.plain.sasl.jaas.config=${jaas(passwords)}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:${KAFKA_ADMIN}
allow.everyone.if.no.acl.found=false
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

const request = (apiKey: number, version: number, body: Buffer): Buffer => {
  const client = Buffer.from('startup')
  const head = Buffer.alloc(14)
  head.writeInt32BE(10 + client.length + body.length, 0)
  head.writeInt16BE(apiKey, 4)
  head.writeInt16BE(version, 6)
  head.writeInt32BE(1, 8)
  head.writeInt16BE(client.length, 12)
  return Buffer.concat([head, client, body])
}

/** Signs in (SaslHandshake, SaslAuthenticate) and requests the metadata of no topic. */
const startupRequests = (password: string): Buffer => {
  const mechanism = Buffer.from('\0\x05PLAIN', 'latin1')
  const proof = Buffer.from(`\0${KAFKA_ADMIN}\0${password}`)
  const length = Buffer.alloc(4)
  length.writeInt32BE(proof.length)
  return Buffer.concat([
    request(17, 1, mechanism),
    request(36, 0, Buffer.concat([length, proof])),
    request(3, 4, Buffer.alloc(5)),
  ])
}

// A broker lists itself in a metadata answer only once its controller has admitted it; its port is open much earlier.
const answersMetadata = (port: number, password: string) =>
  new Promise<boolean>((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 2_000 })
    let answers = Buffer.alloc(0)
    socket.once('connect', () => socket.write(startupRequests(password)))
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('no answer to a metadata request')))
    socket.once('close', () => reject(new Error('the connection was closed')))
    socket.on('data', chunk => {
      answers = Buffer.concat([answers, chunk as Buffer])
      let at = 0
      for (let answer = 0; answer < 2; answer++) {
        if (answers.length < at + 4) return
        at += 4 + answers.readInt32BE(at)
      }
      if (answers.length < at + 16) return
      // Length, correlation id, throttle time (4 bytes each), then the number of brokers.
      resolve(answers.readInt32BE(at + 12) > 0)
      socket.destroy()
    })
  })

/** One Kafka node, broker and controller in one process; ready when it lists itself in a metadata answer. */
export const startKafka = async (context: ServerContext, port: number): Promise<ManagedProcess> => {
  const { dataDir, guard, java, logFile, report } = context
  const jars = await fetchArtifact('kafka', { ...context, logFile: logFile('maven') })
  report('Kafka: starting ...')
  const home = ownFolder(join(dataDir, 'kafka'))
  const passwords = loadKafkaPasswords(dataDir)
  const write = (name: string, text: string) => {
    writeFileSync(join(home, name), text, { mode: 0o600 })
    giveToServer(join(home, name))
  }
  write('server.properties', serverProperties(port, await findFreePort(), passwords))
  write('log4j2.xml', loggingConfig)
  const command = {
    name: 'Kafka',
    cwd: home,
    logFile: logFile('kafka'),
    order: context.order,
  }
  const classPath = ['-cp', join(jars, '*'), '-Dlog4j2.configurationFile=log4j2.xml']
  /** Also where its data was lost while it was down: it begins as a new cluster. */
  const formatOnce = async () => {
    if (existsSync(join(home, 'log', 'meta.properties'))) return
    await runToEnd(guard, {
      ...command,
      name: 'Kafka (formatting its storage)',
      ...asNobody(java, [
        ...javaFlags(128),
        ...classPath,
        'kafka.tools.StorageTool',
        'format',
        `--cluster-id=${randomBytes(16).toString('base64url')}`,
        '--config=server.properties',
      ]),
    })
  }
  return startProcess(guard, {
    ...command,
    ...asNobody(java, [...javaFlags(512), ...classPath, 'kafka.Kafka', 'server.properties']),
    isReady: () => answersMetadata(port, passwords.get(KAFKA_ADMIN)!),
    beforeStart: formatOnce,
    readyWithinMs: 90_000,
  })
}
