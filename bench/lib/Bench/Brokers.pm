# Bench::Brokers
#		Two NATS servers, a JetStream domain each, joined by a leaf node: the form that demo/leaf has.
package Bench::Brokers;

use strict;
use warnings;

use File::Path qw(remove_tree);
use PgTide::Nats;

our %URL = (us => 'nats://127.0.0.1:4222', eu => 'nats://127.0.0.1:4223');
our $LEAF_PORT = 7422;    # everything between the two goes through it

# Both, started, without any stream of a round before: {us => PgTide::Nats, eu => PgTide::Nats}.
sub start
{
	my $common = sub { "server_name: nats-$_[0]\nlisten: 127.0.0.1:$_[1]\njetstream { store_dir: data, domain: $_[2] }\n" };
	remove_tree("$ENV{TIDE_DATA}/nats-us", "$ENV{TIDE_DATA}/nats-eu");
	my $servers = {
		us => PgTide::Nats->new(
			name => 'us', url => $URL{us},
			config => $common->('us', 4222, 'us-east') . "leafnodes { listen: 127.0.0.1:$LEAF_PORT }\n"),
		eu => PgTide::Nats->new(
			name => 'eu', url => $URL{eu},
			config => $common->('eu', 4223, 'eu-west') . "leafnodes { reconnect: 1, remotes: [ { url: nats-leaf://127.0.0.1:$LEAF_PORT } ] }\n")};
	$servers->{$_}->start for qw(us eu);
	PgTide::Nats->wait_joined($servers) or die 'the NATS servers did not find each other';
	return $servers;
}

1;
