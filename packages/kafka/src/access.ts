// The brokers' access control lists, per user, topic and group: ARCHITECTURE.md's table of topics.
import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import kafkajs from 'kafkajs'

const { AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = kafkajs

type Access = {
  writes: readonly Topic[]
  reads: readonly Topic[]
  /** Names of groups; a name that ends in `*` is a prefix. */
  groups: readonly string[]
}

const ALL = Object.keys(TOPICS) as Topic[]

/** By authenticated user. Only the set-up's super user has further rights. */
export const KAFKA_ACCESS = {
  gateway: {
    writes: ['ledger.commands', 'identity.events', 'notifier.commands'],
    reads: ['ledger.events'],
    groups: ['gateway-*'],
  },
  ledger: {
    writes: ['ledger.events', 'ledger.dead-letters'],
    reads: ['ledger.commands', 'ledger.events'],
    // Its commands read ledger.events; catch-up reads single records of ledger.commands.
    groups: ['ledger', 'read-ledger.events-*', 'read-ledger.commands-*'],
  },
  notifier: {
    writes: ['notifier.dead-letters'],
    reads: ['ledger.events', 'identity.events', 'notifier.commands'],
    // Its command notifier:rebuild reads its topics.
    groups: ['notifier', 'read-*'],
  },
  // Its commands audit:verify and audit:rebuild read all topics.
  audit: { writes: ['audit.checkpoints'], reads: ALL, groups: ['audit', 'read-*'] },
  /** People who run the commands: they redrive dead letters; a redriven command keeps its gateway's MAC. */
  operator: {
    writes: [
      'ledger.commands',
      'ledger.events',
      'notifier.commands',
      'ledger.dead-letters',
      'notifier.dead-letters',
    ],
    reads: ALL,
    groups: ['read-*', 'demo-*'],
  },
  /** A person who looks into the events with a client of their own. */
  reader: { writes: [], reads: ['ledger.events', 'identity.events'], groups: ['example-*'] },
  /** The programs of other teams: docs/consume.md. */
  downstream: { writes: [], reads: ['ledger.events', 'identity.events'], groups: ['downstream-*'] },
} as const satisfies Record<string, Access>

export type KafkaUser = keyof typeof KAFKA_ACCESS
export const KAFKA_USERS = Object.keys(KAFKA_ACCESS) as KafkaUser[]

const nameOf = (acl: kafkajs.AclEntry) =>
  [acl.resourceType, acl.resourcePatternType, acl.resourceName, acl.principal, acl.operation].join(' ')

const wantedAcls = (): kafkajs.AclEntry[] =>
  Object.entries<Access>(KAFKA_ACCESS).flatMap(([user, { writes, reads, groups }]) => {
    const allow = (
      resourceType: kafkajs.AclResourceTypes,
      name: string,
      operation: kafkajs.AclOperationTypes,
    ): kafkajs.AclEntry => ({
      resourceType,
      resourceName: name.replace(/\*$/, ''),
      resourcePatternType: name.endsWith('*') ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL,
      principal: `User:${user}`,
      host: '*',
      operation,
      permissionType: AclPermissionTypes.ALLOW,
    })
    return [
      ...writes.map(topic => allow(AclResourceTypes.TOPIC, topic, AclOperationTypes.WRITE)),
      ...reads.map(topic => allow(AclResourceTypes.TOPIC, topic, AclOperationTypes.READ)),
      // Services check the topic settings on which the promises rest.
      ...new Set([...writes, ...reads])
        .values()
        .map(topic => allow(AclResourceTypes.TOPIC, topic, AclOperationTypes.DESCRIBE_CONFIGS)),
      ...groups.flatMap(group => [
        allow(AclResourceTypes.GROUP, group, AclOperationTypes.READ),
        allow(AclResourceTypes.GROUP, group, AclOperationTypes.DELETE),
      ]),
    ]
  })

/** Makes the brokers' ACLs equal the table above: adds missing ones, deletes further ones of our users. */
export const applyAccess = async (admin: kafkajs.Admin): Promise<void> => {
  const wanted = new Map(wantedAcls().map(acl => [nameOf(acl), acl]))
  const { resources } = await admin.describeAcls({
    resourceType: AclResourceTypes.ANY,
    resourcePatternType: ResourcePatternTypes.ANY,
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ANY,
  } as kafkajs.AclFilter)
  const there = resources.flatMap(({ acls, ...resource }) => acls.map(acl => ({ ...resource, ...acl })))
  const ours = there.filter(({ principal }) => KAFKA_USERS.some(user => principal === `User:${user}`))
  const extra = ours.filter(acl => !wanted.has(nameOf(acl)))
  if (extra.length > 0) await admin.deleteAcls({ filters: extra })
  for (const acl of ours) wanted.delete(nameOf(acl))
  if (wanted.size > 0) await admin.createAcls({ acl: [...wanted.values()] })
}
