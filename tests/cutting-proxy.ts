import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A proxy on loopback to a port; `cut` resets every connection. */
export const startCuttingProxy = async (targetPort: number) => {
  const sockets = new Set<Socket>()
  const server = createServer(client => {
    const target = connect({ host: '127.0.0.1', port: targetPort })
    for (const socket of [client, target]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => {
        sockets.delete(socket)
        client.destroy()
        target.destroy()
      })
    }
    client.pipe(target).pipe(client)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const cut = () => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    stop: () => {
      server.close()
      cut()
    },
  }
}
