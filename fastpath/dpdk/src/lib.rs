//! Safe ports, pools and frames of DPDK: the driver that the fastpath runs on
