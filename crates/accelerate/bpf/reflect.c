// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Answers at tcx ingress what the reflector's sockets would answer with an echo, or passes it on.
//
// Whatever is not fully understood is passed (TCX_NEXT, so that programs behind this one run as
// well): the sockets answer it, refuse it, count it and say why. Nothing is ever dropped here.
//
// No byte of a frame is written before all has been decided, and all are written by one call.
// Written in place, the kernel would copy the head of each cloned packet of the device first, TCP
// included, and drop what it has no memory for (bpf_unclone_prologue, net/core/filter.c).
//
// scripts/bpf.sh makes reflect.o of it, which is what is shipped.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// enum tcx_action_base of linux/bpf.h since Linux 6.6.
#define TCX_NEXT -1

// What crates/accelerate/src/layout.rs says as well.
#define WAY_PEER 1
#define FRAMING_ETHERNET 1
#define SUB_BUCKETS 8
#define BUCKETS 176
#define RESIDENCE_MAX_NS ((1 << 24) - 1)

// One reply in so many is timed.
#define TIMED_ONE_IN 64
// UDP_MAX_SEGMENTS of linux/udp.h: a train of more datagrams is none that a kernel makes.
#define TRAIN_MAX 128
// Left in tc_index of what was answered here: two reflectors whose devices face each other would
// turn a datagram without end inside one receive call. What has turned once, sockets turn.
#define ANSWERED 0x5246

// A device that is answered. Without an entry, all its frames are passed: one that was moved to
// another namespace has another number there.
struct device {
	__u8 way;
	__u8 framing;
	// Whether frames to `other` are its own as well, which is so for a port of a bridge.
	__u8 has_other;
	__u8 other[ETH_ALEN];
	__u8 padding[3];
	// A bit, which those sources have that this host would send to by this device.
	__u32 bit;
};

// An address and port that a socket of the reflector listens on.
struct target {
	// Of IPv4 the first four bytes.
	__u8 addr[16];
	// For addresses that mean something on one device only, else 0.
	__u32 ifindex;
	__be16 port;
	__u8 version;
	__u8 padding;
};

struct prefix4 {
	__u32 len;
	__be32 addr;
};

struct prefix6 {
	__u32 len;
	__u8 addr[16];
};

// What goes with a pair of lists.
struct settings {
	__u64 denied_ports[65536 / 64];
	// Of replies, where there is no loop guard.
	__u64 hop_limit;
	__u64 tos;
	__u64 has_loop_guard;
};

struct counters {
	__u64 datagrams;
	__u64 bytes;
	__u64 trains;
	// Frames: a train is one.
	__u64 frames;
	// How long a frame was in here, of those that were timed.
	__u64 buckets[BUCKETS];
	// No two CPUs write one cache line.
	__u64 padding[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct target);
	__type(value, __u32);
} targets SEC(".maps");

// Who is answered, and by which devices, twice: one is used while the other is written. Without an
// entry, nobody.
#define LIST(name, prefix)                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);                                               \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__uint(max_entries, 1 << 20);                                                      \
		__type(key, struct prefix);                                                        \
		__type(value, __u32);                                                              \
	} name SEC(".maps")

LIST(even4, prefix4);
LIST(odd4, prefix4);
LIST(even6, prefix6);
LIST(odd6, prefix6);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct settings);
} both_settings SEC(".maps");

// 0: what is even is used; 1: what is odd; else: everything is passed.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} used SEC(".maps");

// One for each CPU that there may be; the loader says how many. Not BPF_MAP_TYPE_PERCPU_ARRAY:
// reading that takes a file of /sys, which the sandbox takes away.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counted SEC(".maps");

// What is known of a frame that is about to be answered. Numbers have 64 bits: without CAP_PERFMON
// the verifier refuses to spill 32 into a slot of the stack that has held a pointer.
struct request {
	// Bytes behind the UDP header.
	__u64 payload_len;
	__u64 datagrams;
	const struct settings *settings;
};

// The bytes of a reply that differ from its request's, in front of the length of UDP. The padding
// aligns the IP header.
struct reply4 {
	__u16 padding;
	struct ethhdr eth;
	struct iphdr ip;
	__be16 source;
	__be16 dest;
} __attribute__((packed, aligned(8)));

struct reply6 {
	__u16 padding;
	struct ethhdr eth;
	struct ipv6hdr ip;
	__be16 source;
	__be16 dest;
} __attribute__((packed, aligned(8)));

// From `first` on, without what rounds the size up.
#define REPLY_LEN(reply, first)                                                                    \
	(offsetof(struct reply, dest) + sizeof(__be16) - offsetof(struct reply, first))

// Has the first `len` bytes of a frame where they can be read, unless it has fewer: the head of
// what came by a card may be elsewhere. The verifier wants to see them compared after that.
static __always_inline int pull(struct __sk_buff *skb, __u32 len)
{
	return (void *)(long)skb->data + len <= (void *)(long)skb->data_end ||
	       (skb->len >= len && !bpf_skb_pull_data(skb, len));
}

// Whether the device would hand the frame to this host, and a reply could find its way back.
static __always_inline int is_ours(struct __sk_buff *skb, const struct device *device,
				   const struct ethhdr *eth)
{
	if (eth->h_source[0] & 1)
		return 0;
	if (skb->pkt_type == PACKET_HOST)
		return 1;
	return skb->pkt_type == PACKET_OTHERHOST && device->has_other &&
	       !__builtin_memcmp(eth->h_dest, device->other, ETH_ALEN);
}

// Whether the lengths of UDP and IP agree, and the frame has as many bytes.
static __always_inline int fits(struct __sk_buff *skb, struct request *request,
				const __u32 header_len, __u32 ip_payload, const struct udphdr *udp)
{
	__u32 len = bpf_ntohs(udp->len);
	if (len < sizeof(*udp) || len != ip_payload)
		return 0;
	request->payload_len = len - sizeof(*udp);
	__u64 whole = header_len + request->payload_len;
	if (whole > skb->len)
		return 0;
	// gso_segs is 0 for what comes out of tun and tap.
	__u32 segment = skb->gso_size;
	request->datagrams = 1;
	if (segment && request->payload_len > segment)
		request->datagrams = (request->payload_len + segment - 1) / segment;
	// Padding is cut off below, but not of a train.
	return request->datagrams <= TRAIN_MAX && (!segment || whole == skb->len);
}

static __always_inline int may_ask(const struct request *request, const struct device *device,
				   const struct udphdr *udp, const __u32 *listed)
{
	__u16 port = bpf_ntohs(udp->source);
	if (request->settings->denied_ports[port / 64] >> (port % 64) & 1)
		return 0;
	// Else a reply would leave by another device, or none, and rp_filter may refuse the request.
	return listed && *listed & device->bit;
}

// The hop limit of a reply, or 0 for none.
static __always_inline __u8 hops(const struct request *request, __u8 left)
{
	if (!request->settings->has_loop_guard)
		return request->settings->hop_limit;
	return left ? left - 1 : 0;
}

// What does not come from this frame's header is the sum of no more than ten words.
static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u16 header_sum(const struct iphdr *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	return folded(sum);
}

// Writes `len` bytes over the head of the frame, without what is behind its `whole` request.
static __always_inline int turn(struct __sk_buff *skb, __u64 whole, const void *with, __u32 len)
{
	if (skb->len > whole && bpf_skb_change_tail(skb, whole, 0))
		return 0;
	return !bpf_skb_store_bytes(skb, 0, with, len, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int answer4(struct __sk_buff *skb, const struct device *device,
				   struct request *request, const __u32 link_len, int is_odd)
{
	struct reply4 reply = {};
	const __u32 header_len = link_len + sizeof(struct iphdr) + sizeof(struct udphdr);
	if (!pull(skb, header_len))
		return 0;
	const void *frame = (void *)(long)skb->data;
	if (frame + header_len > (void *)(long)skb->data_end)
		return 0;
	const struct iphdr *ip = frame + link_len;
	const struct udphdr *udp = (const void *)(ip + 1);
	// Version 4 and no options; no fragment, and no bit set that has no meaning.
	if (*(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP ||
	    ip->frag_off & bpf_htons(0xbfff) || header_sum(ip) != 0xffff ||
	    !fits(skb, request, header_len, bpf_ntohs(ip->tot_len) - sizeof(*ip), udp))
		return 0;

	struct target target = { .version = 4, .port = udp->dest };
	*(__be32 *)target.addr = ip->daddr;
	if ((ip->daddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000))
		target.ifindex = skb->ifindex;
	if (!bpf_map_lookup_elem(&targets, &target))
		return 0;
	struct prefix4 peer = { .len = 32, .addr = ip->saddr };
	// Two calls, since one that may be about either list is not made directly.
	const __u32 *listed = is_odd ? bpf_map_lookup_elem(&odd4, &peer) :
				       bpf_map_lookup_elem(&even4, &peer);
	if (!may_ask(request, device, udp, listed))
		return 0;

	reply.ip = *ip;
	reply.ip.ttl = hops(request, ip->ttl);
	if (!reply.ip.ttl)
		return 0;
	reply.ip.tos = request->settings->tos;
	reply.ip.saddr = ip->daddr;
	reply.ip.daddr = ip->saddr;
	// By what has changed (RFC 1624): the words of TOS and TTL.
	__u32 sum = (__u16)~ip->check;
	sum += (__u16)~((const __u16 *)ip)[0] + ((__u16 *)&reply.ip)[0];
	sum += (__u16)~((const __u16 *)ip)[4] + ((__u16 *)&reply.ip)[4];
	reply.ip.check = ~folded(sum);
	reply.source = udp->dest;
	reply.dest = udp->source;
	const __u64 whole = header_len + request->payload_len;
	if (!link_len)
		return turn(skb, whole, &reply.ip, REPLY_LEN(reply4, ip));
	const struct ethhdr *eth = frame;
	__builtin_memcpy(reply.eth.h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(reply.eth.h_source, eth->h_dest, ETH_ALEN);
	reply.eth.h_proto = eth->h_proto;
	return turn(skb, whole, &reply.eth, REPLY_LEN(reply4, eth));
}

static __always_inline int answer6(struct __sk_buff *skb, const struct device *device,
				   struct request *request, const __u32 link_len, int is_odd)
{
	struct reply6 reply = {};
	const __u32 header_len = link_len + sizeof(struct ipv6hdr) + sizeof(struct udphdr);
	if (!pull(skb, header_len))
		return 0;
	const void *frame = (void *)(long)skb->data;
	if (frame + header_len > (void *)(long)skb->data_end)
		return 0;
	const struct ipv6hdr *ip = frame + link_len;
	const struct udphdr *udp = (const void *)(ip + 1);
	// UDP at once, without extension headers, and with a sum, which IPv6 demands.
	if (ip->version != 6 || ip->nexthdr != IPPROTO_UDP || !udp->check ||
	    !fits(skb, request, header_len, bpf_ntohs(ip->payload_len), udp))
		return 0;

	struct target target = { .version = 6, .port = udp->dest };
	__builtin_memcpy(target.addr, &ip->daddr, sizeof(ip->daddr));
	const __be32 *daddr = ip->daddr.s6_addr32;
	int is_loopback = !daddr[0] && !daddr[1] && !daddr[2] && daddr[3] == bpf_htonl(1);
	if (is_loopback || (daddr[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		target.ifindex = skb->ifindex;
	if (!bpf_map_lookup_elem(&targets, &target))
		return 0;
	struct prefix6 peer = { .len = 128 };
	__builtin_memcpy(peer.addr, &ip->saddr, sizeof(ip->saddr));
	const __u32 *listed = is_odd ? bpf_map_lookup_elem(&odd6, &peer) :
				       bpf_map_lookup_elem(&even6, &peer);
	if (!may_ask(request, device, udp, listed))
		return 0;

	reply.ip = *ip;
	reply.ip.hop_limit = hops(request, ip->hop_limit);
	if (!reply.ip.hop_limit)
		return 0;
	// Version, traffic class, and no flow label: a label is chosen by who sends (RFC 6437).
	*(__be32 *)&reply.ip = bpf_htonl(6 << 28 | (__u32)request->settings->tos << 20);
	reply.ip.saddr = ip->daddr;
	reply.ip.daddr = ip->saddr;
	reply.source = udp->dest;
	reply.dest = udp->source;
	const __u64 whole = header_len + request->payload_len;
	if (!link_len)
		return turn(skb, whole, &reply.ip, REPLY_LEN(reply6, ip));
	const struct ethhdr *eth = frame;
	__builtin_memcpy(reply.eth.h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(reply.eth.h_source, eth->h_dest, ETH_ALEN);
	reply.eth.h_proto = eth->h_proto;
	return turn(skb, whole, &reply.eth, REPLY_LEN(reply6, eth));
}

// Once for each framing: without CAP_PERFMON the verifier lets only constants be added to the
// start of a frame, and no pointer into it be compared with NULL.
static __always_inline int answer(struct __sk_buff *skb, const struct device *device,
				  struct request *request, __be16 protocol, const __u32 link_len,
				  int is_odd)
{
	if (protocol == bpf_htons(ETH_P_IP))
		return answer4(skb, device, request, link_len, is_odd);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return answer6(skb, device, request, link_len, is_odd);
	return 0;
}

static __always_inline int answer_ethernet(struct __sk_buff *skb, const struct device *device,
					   struct request *request, int is_odd)
{
	const __u32 len = sizeof(struct ethhdr);
	if (!pull(skb, len))
		return 0;
	const struct ethhdr *eth = (void *)(long)skb->data;
	if ((const void *)(eth + 1) > (void *)(long)skb->data_end || !is_ours(skb, device, eth))
		return 0;
	return answer(skb, device, request, eth->h_proto, len, is_odd);
}

static __always_inline __u32 log2_of(__u32 value)
{
	__u32 log = 0;
#pragma unroll
	for (__u32 step = 16; step; step /= 2) {
		if (value >> step) {
			value >>= step;
			log += step;
		}
	}
	return log;
}

// Counts how long a frame was in here: each power of two has SUB_BUCKETS buckets.
static __always_inline void time_it(struct counters *counters, __u64 since)
{
	__u64 residence = bpf_ktime_get_ns() - since;
	__u32 ns = residence > RESIDENCE_MAX_NS ? RESIDENCE_MAX_NS : residence;
	__u32 bucket = ns;
	if (ns >= SUB_BUCKETS) {
		__u32 log = log2_of(ns);
		bucket = (log - 2) * SUB_BUCKETS + (ns >> (log - 3)) % SUB_BUCKETS;
	}
	if (bucket < BUCKETS)
		counters->buckets[bucket]++;
}

SEC("classifier")
int reflect(struct __sk_buff *skb)
{
	const __u32 zero = 0;
	__u32 ifindex = skb->ifindex;
	const struct device *device = bpf_map_lookup_elem(&devices, &ifindex);
	if (!device || skb->tc_index == ANSWERED || skb->vlan_present)
		return TCX_NEXT;
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *counters = bpf_map_lookup_elem(&counted, &cpu);
	const __u32 *set = bpf_map_lookup_elem(&used, &zero);
	if (!counters || !set)
		return TCX_NEXT;
	__u32 odd = *set;
	if (odd > 1)
		return TCX_NEXT;
	struct request request = {};
	request.settings = bpf_map_lookup_elem(&both_settings, &odd);
	if (!request.settings)
		return TCX_NEXT;
	// What is passed before the next one is answered has the clock read in vain.
	int is_timed = counters->frames % TIMED_ONE_IN == 0;
	__u64 since = is_timed ? bpf_ktime_get_ns() : 0;

	int is_answered = device->framing == FRAMING_ETHERNET ?
				  answer_ethernet(skb, device, &request, odd) :
				  answer(skb, device, &request, skb->protocol, 0, odd);
	if (!is_answered)
		return TCX_NEXT;

	skb->tc_index = ANSWERED;
	counters->datagrams += request.datagrams;
	counters->bytes += request.payload_len;
	counters->trains += request.datagrams > 1;
	counters->frames++;
	if (is_timed)
		time_it(counters, since);
	// By the number that the device has now: it may have moved and got another.
	return device->way == WAY_PEER ? bpf_redirect_peer(ifindex, 0) : bpf_redirect(ifindex, 0);
}

const char terms[] SEC("license") = "MIT OR Apache-2.0";
