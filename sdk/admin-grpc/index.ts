/** `import { grpcChannel } from 'pando/sdk/admin/grpc'`: administration over gRPC, from Node. */
export { type GrpcChannelOptions, grpcChannel } from './grpc-channel.ts'
