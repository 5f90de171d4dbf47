/* What the bindings need of DPDK that is a macro, inline or an anonymous union in C. Everything else is bound directly. */
#ifndef MILLRACE_SHIM_H
#define MILLRACE_SHIM_H

#include <stdint.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Receive flags of a frame. Two bits each: neither set is unknown, both set is "none" for a tunnel (treated as unknown). */
static const uint64_t SHIM_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;

static const uint64_t SHIM_RX_OFFLOAD_CHECKSUMS = RTE_ETH_RX_OFFLOAD_CHECKSUM;
static const uint64_t SHIM_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

/* The part of rte_eth_dev_info that a port is set up by. */
struct shim_device {
	char driver[64];
	uint64_t rx_offloads;     /* RTE_ETH_RX_OFFLOAD_* */
	uint64_t tx_offloads;     /* RTE_ETH_TX_OFFLOAD_* */
	uint64_t rss_types;       /* RTE_ETH_RSS_* that the device hashes by, of those we ask for */
	uint32_t speed_mbps;      /* of the link, 0 when unknown */
	uint16_t rx_queues_max;
	uint16_t tx_queues_max;
	int16_t numa_node;        /* -1: none */
	uint8_t link_up;
};

/* rte_errno of the calling thread. */
int shim_errno(void);

/* Describes a device; 0 or a negative errno. */
int shim_device_describe(uint16_t port, struct shim_device *device);

/* Link state without waiting; 0 or a negative errno. */
int shim_link(uint16_t port, uint8_t *up, uint32_t *speed_mbps);

/* Sets queues and offloads. Receive queues share flows by `rss_types` where it isn't 0. 0 or a negative errno. */
int shim_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint64_t rx_offloads,
			uint64_t tx_offloads, uint64_t rss_types);

/* One fresh frame, or NULL. */
struct rte_mbuf *shim_frame_alloc(struct rte_mempool *pool);
/* All of them, or an error. */
int shim_frame_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count);

/* Gives back all segments of a frame. */
void shim_frame_free(struct rte_mbuf *frame);

/* A reference to all of `frame` behind its first `from` bytes, that `count` others can have behind their headers; NULL if there is no
 * buffer for it, or if the first segment is shorter. */
struct rte_mbuf *shim_frame_share(struct rte_mbuf *frame, size_t from, uint16_t count);

/* Gives back so many of the times that a reference was to be made use of. */
void shim_frame_unshare(struct rte_mbuf *shared, uint16_t count);

/* Puts a whole frame of one segment, its own buffer, behind a header, which has one segment as well: the least that it can cost. */
void shim_frame_attach(struct rte_mbuf *header, struct rte_mbuf *payload);

/* Copies all segments into the first one. 0, or -1 with the frame unchanged. */
int shim_frame_linearize(struct rte_mbuf *frame);

/* The highest count of references among the buffers that the frame's segments lie in. */
uint16_t shim_frame_references(const struct rte_mbuf *frame);

#endif
