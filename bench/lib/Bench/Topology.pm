# Bench::Topology
#		Ways from one region's outbox to the other region's inbox.
#
# Owns: pipelines, brokers and relays of each way.  A way is an object with start and stop; between
# them events flow.  Does not own: what is published and measured.
package Bench::Topology;

use strict;
use warnings;

use Bench::Brokers;
use Bench::Util qw(one relay_of);
use PgTide::Test qw(wait_until);

# way: direct or nats.  Creates the outbox 'bench' in us and the inbox 'bench' in eu.
sub new
{
	my ($class, $way, $us, $eu) = @_;
	my $self = bless {way => $way, us => $us, eu => $eu}, $class;
	one($us, "SELECT tide.outbox_create('bench')");
	one($eu, "SELECT tide.inbox_create('bench')");
	return $self;
}

sub way { return $_[0]{way}; }

sub _configure
{
	my ($self) = @_;
	if ($self->{way} eq 'direct')
	{
		my $conninfo = $self->{eu}->relay_conninfo;
		one($self->{us}, qq{SELECT tide.relay_set_outbox('bench', 'bench', '{"sink_type": "inbox", "conninfo": "$conninfo", "inbox": "bench"}')});
		return;
	}
	one($self->{us}, <<~'END');
		SELECT tide.relay_set_outbox('bench', 'bench', '{"sink_type": "nats", "url": "nats://127.0.0.1:4222",
			"subject_template": "bench.{op}.us-east", "stream": "BENCH"}')
		END
	one($self->{eu}, <<~'END');
		SELECT tide.relay_set_inbox('bench', 'bench', '{"source_type": "nats", "url": "nats://127.0.0.1:4223",
			"subject": "bench.*.us-east", "stream": "BENCH", "durable_name": "bench", "consumer_group": "bench",
			"peer_domain": "us-east"}')
		END
	return;
}

# Starts brokers and relays, the receiving side first.
sub start
{
	my ($self) = @_;
	$self->{nats} = Bench::Brokers::start() if $self->{way} eq 'nats';
	$self->_configure;
	for my $side ($self->{way} eq 'nats' ? qw(eu us) : qw(us))
	{
		$self->{relay}{$side} = relay_of("$self->{way}-$side", $self->{$side});
		$self->{relay}{$side}->start;
	}
	return $self;
}

# Events the inbox has been given so far; costs next to nothing to ask.
sub received
{
	my ($self) = @_;
	return one($self->{eu}, "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('tide.bench_inbox', 'seq')), 0)");
}

sub wait_for
{
	my ($self, $events, $limit) = @_;
	my $waited = wait_until(sub { $self->received >= $events }, $limit, "$events events in the inbox");
	die "only " . $self->received . " of $events events arrived" unless defined $waited;
	return;
}

# Highest resident size of each relay so far, in KiB.
sub relay_peaks
{
	my ($self) = @_;
	return { map { $_ => ($self->{relay}{$_}->memory_kib)[1] } keys %{ $self->{relay} } };
}

# Ends everything and removes what new() and start() made.
sub stop
{
	my ($self) = @_;
	$_->stop for values %{ $self->{relay} // {} };
	$_->stop for values %{ $self->{nats} // {} };
	one($self->{us}, "SELECT tide.relay_delete(name) FROM tide.pipeline; SELECT tide.outbox_drop('bench')");
	one($self->{eu}, "SELECT tide.relay_delete(name) FROM tide.pipeline; SELECT tide.inbox_drop('bench')");
	return;
}

1;
