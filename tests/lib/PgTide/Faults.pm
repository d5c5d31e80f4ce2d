# PgTide::Faults
#		Two regions under load, for tests that break something and look what arrived.
#
# Owns: two pipelines a region (over NATS or straight), writers on both sides,
# and the verdict: everything committed is in the other inbox exactly once and
# in order per key, nothing else is.  Does not own: the faults.
package PgTide::Faults;

use strict;
use warnings;
use parent 'PgTide::Pair';

use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Load;
use PgTide::Pair;
use PgTide::Test qw(wait_until settle exactly_once);

our $OUTBOX = 'events';
our $INBOX = 'arrivals';
our $STREAM = 'EVENTS';

my %OTHER = (us => 'eu', eu => 'us');
my $json = JSON::PP->new->canonical;

# form: leaf (default), hub, or direct; sink, source: more of the pipelines' configuration (hashes);
# load: arguments of PgTide::Load; seed; netns, preload, conf as in PgTide::Pair;
# slow: seconds that each batch takes in the inbox's transaction at most, so that faults hit it often.
sub new
{
	my ($class, %args) = @_;
	my $form = $args{form} // 'leaf';
	my $seed = $ENV{TIDE_SEED} // $args{seed} // time ^ $$;
	note "seed $seed (TIDE_SEED=$seed repeats it)";
	srand $seed;
	my $self = PgTide::Pair::new($class, %args, form => $form eq 'direct' ? 'none' : $form);
	$self->{direct} = $form eq 'direct';
	for my $side (qw(us eu))
	{
		my $node = $self->{region}{$side};
		$node->safe_psql('postgres', "SELECT tide.outbox_create('$OUTBOX'), tide.inbox_create('$INBOX')");
		$self->{writers}{$side} = PgTide::Load->new(node => $node, outbox => $OUTBOX, %{ $args{load} // {} });
	}
	$self->configure($_) for qw(us eu);
	$self->slow_down($args{slow}) if $args{slow};
	return $self;
}

sub slow_down
{
	my ($self, $seconds) = @_;
	$_->safe_psql('postgres', <<~"END") for values %{ $self->{region} };
		CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM pg_sleep(random() * $seconds); RETURN NULL; END';
		CREATE TRIGGER dawdle AFTER INSERT ON tide."${INBOX}_inbox" EXECUTE FUNCTION dawdle();
		END
	return;
}

sub load { return $_[0]{writers}{ $_[1] }; }

# How a relay reaches the database of that side from anywhere.
sub conninfo
{
	my ($self, $side) = @_;
	my $node = $self->{region}{$side};
	my $host = $self->{netns} ? $PgTide::Wan::ADDRESS{$side} : $node->host;
	return "host=$host port=" . $node->port . ' user=relay dbname=postgres connect_timeout=5';
}

sub sink_config
{
	my ($self, $side, %more) = @_;
	my %config =
	  $self->{direct}
	  ? (sink_type => 'inbox', conninfo => $self->conninfo($OTHER{$side}), inbox => $INBOX)
	  : (
		sink_type        => 'nats',
		url              => "nats://nats-$side:4222",
		stream           => $STREAM,
		subject_template => "events.{op}.$PgTide::Pair::REGION{$side}");
	return { %config, %{ $self->{sink} // {} }, %more };
}

sub source_config
{
	my ($self, $side, %more) = @_;
	return {
		source_type  => 'nats',
		url          => "nats://nats-$side:4222",
		stream       => $STREAM,
		subject      => "events.*.$PgTide::Pair::REGION{$OTHER{$side}}",
		durable_name => "$side-reader",
		%{ $self->{source} // {} }, %more
	};
}

sub set_outbox
{
	my ($self, $side, $pipeline, $config, $outbox) = @_;
	my $text = $json->encode($config);
	$self->{region}{$side}->safe_psql('postgres',
		sprintf q{SELECT tide.relay_set_outbox('%s', '%s', $json$%s$json$)}, $pipeline, $outbox // $OUTBOX, $text);
	return;
}

sub set_inbox
{
	my ($self, $side, $pipeline, $config, $inbox) = @_;
	my $text = $json->encode($config);
	$self->{region}{$side}->safe_psql('postgres',
		sprintf q{SELECT tide.relay_set_inbox('%s', '%s', $json$%s$json$)}, $pipeline, $inbox // $INBOX, $text);
	return;
}

# The pipelines of a side: "out", and "in" unless the other side writes straight into our inbox.
sub configure
{
	my ($self, $side) = @_;
	$self->set_outbox($side, 'out', $self->sink_config($side));
	$self->set_inbox($side, 'in', $self->source_config($side)) unless $self->{direct};
	return;
}

sub start_load
{
	my ($self) = @_;
	$_->start for values %{ $self->{writers} };
	return;
}

sub tend_load
{
	my ($self) = @_;
	$_->tend for values %{ $self->{writers} };
	return;
}

sub stop_load
{
	my ($self) = @_;
	$_->stop for values %{ $self->{writers} };
	return;
}

# One row of tide.pipelines as a hash.
sub pipeline
{
	my ($self, $side, $name) = @_;
	my $row = $self->{region}{$side}->safe_psql('postgres',
		"SELECT to_jsonb(p) FROM tide.pipelines p WHERE name = '$name'");
	return $row eq '' ? {} : $json->decode($row);
}

# Events of the other region in that side's inbox.
sub arrived
{
	my ($self, $side) = @_;
	return $self->{region}{$side}->safe_psql('postgres', "SELECT count(*) FROM tide.\"${INBOX}_inbox\"");
}

# Waits until so many more events have come to that side.
sub wait_arrivals
{
	my ($self, $side, $more, $limit) = @_;
	my $wanted = $self->arrived($side) + $more;
	return wait_until(sub { $self->tend_load if $self->{writers}{us}{running}; $self->arrived($side) >= $wanted },
		$limit // 60, "$more more events at $side");
}

# The events' ids that one has and the other has not, or more than once.
sub difference
{
	my ($self, $from, $to) = @_;
	my %count;
	$count{$_}++ for split /\n/, $self->{region}{$from}->safe_psql('postgres', 'SELECT event_id FROM published');
	$count{$_}-- for split /\n/,
	  $self->{region}{$to}->safe_psql('postgres', "SELECT event_id FROM tide.\"${INBOX}_inbox\"");
	return join ' ', grep { $count{$_} } sort keys %count;
}

# As verdict, but for what nobody can keep in order.
sub verdict_without_order
{
	my ($self, $when, $limit) = @_;
	for my $from (qw(us eu))
	{
		my $to = $OTHER{$from};
		settle($self->{region}{$from}, $OUTBOX, $self->{region}{$to}, $INBOX, $limit);
		is($self->difference($from, $to), '', "$when: what $from committed is in ${to}'s inbox exactly once");
	}
	return;
}

# Waits (up to limit seconds, default 120) and judges; two assertions for each way.
sub verdict
{
	my ($self, $when, $limit) = @_;
	for my $from (qw(us eu))
	{
		my $to = $OTHER{$from};
		my ($source, $dest) = @{ $self->{region} }{ $from, $to };
		my $took = settle($source, $OUTBOX, $dest, $INBOX, $limit);
		note sprintf '%s: %s has all %d events of %s after %.1f s', $when, $to, $self->{writers}{$from}->count,
		  $from, $took // -1;
		exactly_once($source, $OUTBOX, $dest, $INBOX,
			"$when: what $from committed is in ${to}'s inbox exactly once");
		is($self->{writers}{$from}->wrong_keys($dest, $INBOX), '', '... and in order per key')
		  or $self->show_disorder($from, $to);
	}
	return;
}

# What helps to understand a failure.
sub show_disorder
{
	my ($self, $from, $to) = @_;
	for my $side ($from, $to)
	{
		diag("$side: " . $self->{region}{$side}->safe_psql('postgres',
				'SELECT to_jsonb(p) FROM tide.pipelines p'));
	}
	diag($self->{region}{$to}->safe_psql('postgres', <<~"END"));
		SELECT key, n, arrival, received_at, event_id FROM (
			SELECT *, (payload->>'n')::bigint AS n, row_number() OVER (PARTITION BY key ORDER BY seq) AS arrival
			FROM tide."${INBOX}_inbox") e
		WHERE n <> arrival ORDER BY seq LIMIT 12
		END
	return;
}

1;
