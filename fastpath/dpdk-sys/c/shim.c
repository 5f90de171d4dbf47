#include <string.h>

#include "shim.h"

int shim_errno(void)
{
	return rte_errno;
}

int shim_device_describe(uint16_t port, struct shim_device *device)
{
	/* Both directions of a flow need not meet on one queue: flows have owners, and frames are handed over. */
	const uint64_t wanted = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
	struct rte_eth_dev_info info;
	int error = rte_eth_dev_info_get(port, &info);

	if (error != 0)
		return error;
	memset(device, 0, sizeof(*device));
	if (info.driver_name != NULL)
		strncpy(device->driver, info.driver_name, sizeof(device->driver) - 1);
	device->rx_offloads = info.rx_offload_capa;
	device->tx_offloads = info.tx_offload_capa;
	device->rss_types = info.flow_type_rss_offloads & wanted;
	device->rx_queues_max = info.max_rx_queues;
	device->tx_queues_max = info.max_tx_queues;
	device->numa_node = rte_eth_dev_socket_id(port);
	return shim_link(port, &device->link_up, &device->speed_mbps);
}

int shim_link(uint16_t port, uint8_t *up, uint32_t *speed_mbps)
{
	struct rte_eth_link link;
	int error = rte_eth_link_get_nowait(port, &link);

	if (error != 0)
		return error;
	*up = link.link_status == RTE_ETH_LINK_UP;
	*speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return 0;
}

int shim_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint64_t rx_offloads,
			uint64_t tx_offloads, uint64_t rss_types)
{
	struct rte_eth_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.rxmode.offloads = rx_offloads;
	conf.txmode.offloads = tx_offloads;
	if (rss_types != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = rss_types;
	}
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

struct rte_mbuf *shim_frame_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_frame_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, frames, count);
}

void shim_frame_free(struct rte_mbuf *frame)
{
	rte_pktmbuf_free(frame);
}

struct rte_mbuf *shim_frame_share(struct rte_mbuf *frame, size_t from, uint16_t count)
{
	struct rte_mbuf *shared = NULL, *behind;

	if (from > frame->data_len)
		return NULL;
	/* What others have sent has segments that they may still hold as well. Those count for themselves: what they refer to may have
	 * them alone for holders, and DPDK counts that in one step only where it asks the one holder there is. */
	behind = frame->next;
	/* Nothing of the first segment is nothing to refer to: there would be one more at each router that the packet comes through. */
	if (from < frame->data_len || behind == NULL) {
		/* One reference for all of them, which then counts how many there are: the last segments of many frames at a time, for
		 * nothing in their own headers says whose they are. What is left of its last use, attaching writes over. */
		shared = rte_mbuf_raw_alloc(frame->pool);
		if (shared == NULL)
			return NULL;
		rte_pktmbuf_attach(shared, frame);
		rte_pktmbuf_adj(shared, (uint16_t)from);
		rte_mbuf_refcnt_set(shared, count);
		shared->next = behind;
	}
	for (; behind != NULL; behind = behind->next)
		rte_mbuf_refcnt_update(behind, (int16_t)count);
	return shared != NULL ? shared : frame->next;
}

void shim_frame_unshare(struct rte_mbuf *shared, uint16_t count)
{
	struct rte_mbuf *next;

	for (; shared != NULL; shared = next) {
		next = shared->next;
		if (rte_mbuf_refcnt_update(shared, (int16_t)-count) == 0) {
			/* As others find it who free the last reference. */
			rte_mbuf_refcnt_set(shared, 1);
			shared->next = NULL;
			shared->nb_segs = 1;
			rte_pktmbuf_free_seg(shared);
		}
	}
}

void shim_frame_attach(struct rte_mbuf *header, struct rte_mbuf *payload)
{
	rte_mbuf_refcnt_update(payload, 1);
	header->next = payload;
	header->nb_segs = (uint16_t)(1 + payload->nb_segs);
	header->pkt_len = header->data_len + payload->pkt_len;
}

int shim_frame_linearize(struct rte_mbuf *frame)
{
	return rte_pktmbuf_linearize(frame);
}

uint16_t shim_frame_references(const struct rte_mbuf *frame)
{
	uint16_t most = 0;

	for (; frame != NULL; frame = frame->next) {
		const struct rte_mbuf *owner =
			RTE_MBUF_CLONED(frame) ? rte_mbuf_from_indirect((struct rte_mbuf *)(uintptr_t)frame) : frame;

		most = RTE_MAX(most, RTE_MAX(rte_mbuf_refcnt_read(frame), rte_mbuf_refcnt_read(owner)));
	}
	return most;
}
