export {
  LocalTransport,
  type LocalTransportOptions,
  localTransport,
  type WayTaken,
} from './local-transport.ts'
